// The attention unit's first layer where all steps of a block are of one row. There it is one product,
// (W2 - W3 + W4 diag(q)) h + term: half of what it is for steps of several rows.
#pragma once

#include "attention.h"

// The row's own weights W, and the sum G of [h, 1] times the gradients of pre-activations over its blocks.
template <class Real>
class AttentionRow {
public:
    explicit AttentionRow(const AttentionProblem<Real>& p)
        : size_(p.size), units_(p.net.units[0]), by_unit_(round_up(p.size, WIDTH<Real>)),
          by_input_(round_up(units_, WIDTH<Real>)), state_(p, by_unit_, by_input_, [&](int64_t m, int64_t k) {
              return p.of_state(m, k);
          }),
          product_(p, by_unit_, by_input_, [&](int64_t m, int64_t k) { return p.of_product(m, k); }),
          W_((size_ + 1) * by_input_), W_transposed_(units_ * by_unit_), G_((size_ + 1) * by_input_), query_(by_unit_),
          input_((size_ + 1) * LANES) {
        std::fill_n(input_.data() + size_ * LANES, LANES, Real(1));
    }

    // term: by_input_ numbers.
    void begin(const Real* query, const Real* term, bool differentiate) {
        std::copy_n(query, size_, query_.data());
        for (int64_t k = 0; k < size_; ++k) {
            const Vector<Real> q = all(query[k]);
            for (int64_t m = k * by_input_; m < (k + 1) * by_input_; m += WIDTH<Real>) {
                store<Real>(W_.data() + m, load(state_.by_input.data() + m) + q * load(product_.by_input.data() + m));
            }
        }
        std::copy_n(term, by_input_, W_.data() + size_ * by_input_);
        if (!differentiate) return;
        for (int64_t m = 0; m < units_ * by_unit_; m += by_unit_) {
            for (int64_t k = 0; k < by_unit_; k += WIDTH<Real>) {
                store<Real>(W_transposed_.data() + m + k,
                            load(state_.by_unit.data() + m + k) + load(query_.data() + k) * load(product_.by_unit.data() + m + k));
            }
        }
        std::fill_n(G_.data(), (size_ + 1) * by_input_, Real(0));
    }

    // LANES steps, whose states begin at h.
    void read(const Real* h) {
        const Rows<Real> states(LANES, nullptr, [&](int lane) { return h + lane * size_; });
        to_lanes(states.at, size_, vectors_of<Real>(LANES), input_.data());
    }

    // Their pre-activations.
    void run(Real* units) const { run_lanes(input_.data(), vectors_of<Real>(LANES), units); }

    // Pre-activations of steps that lie in lanes, [h, 1].
    void run_lanes(const Real* input, int vectors, Real* units) const {
        multiply<Real>({W_.data(), by_input_}, {input, LANES}, {units, LANES}, units_, size_ + 1, vectors, false);
    }

    // d: gradients of pre-activations, as rows.
    void add(Matrix<const Real> d) {
        multiply_lanes<Real>(input_.data(), d, {G_.data(), by_input_}, size_ + 1, LANES, vectors_of<Real>(units_), true);
    }

    // d: gradients of pre-activations, in lanes. d_h: where the rows of the gradients of states begin.
    void differentiate_states(const Real* d, Real* d_h) {
        Real* const lanes = input_.data();
        multiply<Real>({W_transposed_.data(), by_unit_}, {d, LANES}, {lanes, LANES}, size_, units_,
                       vectors_of<Real>(LANES), false);
        Real* rows[LANES];
        for (int lane = 0; lane < LANES; ++lane) rows[lane] = d_h + lane * size_;
        from_lanes(lanes, size_, LANES, rows);
    }

    // Of the row's term, and of its query apart from that.
    void add_to(Real* d_term, Real* d_query) const {
        const Real* const d = G_.data() + size_ * by_input_;
        for (int64_t m = 0; m < units_; ++m) d_term[m] += d[m];
        for (int64_t k = 0; k < size_; ++k) {
            Vector<Real> sum = {};
            for (int64_t m = k * by_input_; m < (k + 1) * by_input_; m += WIDTH<Real>) {
                sum += load(G_.data() + m) * load(product_.by_input.data() + m);
            }
            for (int lane = 0; lane < WIDTH<Real>; ++lane) d_query[k] += sum[lane];
        }
    }

    // sums: of [h, q * h] times the gradients of pre-activations.
    void add_to(Matrix<Real> sums) const {
        for (int64_t k = 0; k < size_; ++k) {
            const Real* const G = G_.data() + k * by_input_;
            Real *const state = sums.first + k * by_input_, *const product = state + size_ * by_input_;
            const Vector<Real> q = all(query_.data()[k]);
            for (int64_t m = 0; m < by_input_; m += WIDTH<Real>) {
                store<Real>(state + m, load(state + m) + load(G + m));
                store<Real>(product + m, load(product + m) + q * load(G + m));
            }
        }
    }

private:
    // A matrix of weights (units, size), its rows whole vectors, and its transpose.
    struct Both {
        Buffer<Real> by_unit, by_input;

        template <class At>
        Both(const AttentionProblem<Real>& p, int64_t unit_stride, int64_t input_stride, At at)
            : by_unit(p.net.units[0] * unit_stride), by_input(p.size * input_stride) {
            for (int64_t m = 0; m < p.net.units[0]; ++m) {
                for (int64_t k = 0; k < p.size; ++k) {
                    by_unit.data()[m * unit_stride + k] = by_input.data()[k * input_stride + m] = at(m, k);
                }
            }
        }
    };

    const int64_t size_, units_, by_unit_, by_input_;  // strides
    Both state_, product_;
    Buffer<Real> W_, W_transposed_, G_, query_, input_;
};
