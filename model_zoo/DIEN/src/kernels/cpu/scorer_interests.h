// Interest states of one user: what the behaviours tell before any candidate is known.
#pragma once

#include <vector>

#include "candidate_step.h"
#include "row_product.h"
#include "scorer.h"

template <class Real>
class UserInterests {
public:
    UserInterests(const Feature<Real>* features, const SequenceWeights<Real>& p)
        : features_(features), p_(p), H_(p.hidden), input_(3 * H_, p.size + 1, [&](int64_t m, int64_t k) {
              return k < p.size ? p.extractor_ih[m * p.size + k] : p.extractor_bias[m];
          }),
          state_(3 * H_, H_, [&](int64_t m, int64_t k) { return p.extractor_hh[m * H_ + k]; }),
          x_((p.size + 1) * LANES), of_input_(LANES * input_.stride() + WIDTH<Real>),
          of_state_(state_.stride() + WIDTH<Real>), h_(H_ + WIDTH<Real>), pooled_(p.size) {
        std::fill_n(x_.data() + p.size * LANES, LANES, Real(1));
    }

    // A step is real where the first feature's id is not 0.
    static bool is_real(int64_t id) { return id > 0; }

    // (2)-(5).
    void extract(const Column<Real>* columns) {
        const Column<Real>& first = columns[p_.behaviour_features[0]];
        place_.clear();
        for (int64_t t = 0; t < first.count; ++t) {
            if (is_real(first.ids[t])) place_.push_back(t);
        }
        states_.of(steps() * H_);
        std::fill_n(h_.data(), H_, Real(0));
        std::fill_n(pooled_.data(), p_.size, Real(0));
        for (int64_t t = 0; t < steps(); t += LANES) {
            const int count = static_cast<int>(std::min<int64_t>(LANES, steps() - t));
            embed(columns, t, count);
            input_.of_lanes(x_.data(), count, of_input_.data());
            for (int i = 0; i < count; ++i) {
                advance(of_input_.data() + i * input_.stride());
                std::copy_n(h_.data(), H_, states_.data() + (t + i) * H_);
            }
        }
    }

    int64_t steps() const { return static_cast<int64_t>(place_.size()); }
    const Real* state(int64_t t) const { return states_.data() + t * H_; }
    const Real* pooled() const { return pooled_.data(); }  // sum of the behaviours' embeddings

private:
    // To lanes, features side by side.
    void embed(const Column<Real>* columns, int64_t first, int count) {
        int64_t at = 0;
        for (int64_t i = 0; i < p_.behaviours; ++i) {
            const int64_t number = p_.behaviour_features[i];
            const Feature<Real>& feature = features_[number];
            const Rows<Real> rows(count, feature.table, [&](int lane) {
                return feature.table + columns[number].ids[place_[first + lane]] * feature.size;
            });
            to_lanes(rows.at, feature.size, vectors_of<Real>(count), x_.data() + at * LANES);
            for (int lane = 0; lane < count; ++lane) {
                for (int64_t k = 0; k < feature.size; ++k) pooled_.data()[at + k] += rows.at[lane][k];
            }
            at += feature.size;
        }
    }

    // By vectors of units: h may end inside one, whose rest means nothing.
    void advance(const Real* x) {
        Real *const g = of_state_.data(), *const h = h_.data();
        state_.of_row(h, g);
        for (int64_t i = 0; i < H_; i += WIDTH<Real>) {
            const Vector<Real> u = load(x + i) + load(g + i), r = load(x + H_ + i) + load(g + H_ + i);
            store<Real>(h + i, next_state<Real, GRU>(load(h + i), Vector<Real>{}, u, r, load(x + 2 * H_ + i), load(g + 2 * H_ + i)));
        }
    }

    const Feature<Real>* const features_;
    const SequenceWeights<Real> p_;
    const int64_t H_;
    RowProduct<Real> input_, state_;             // [W, b], U
    Buffer<Real> x_, of_input_, of_state_, h_;  // [e, 1] in lanes
    Buffer<Real> pooled_;
    std::vector<int64_t> place_;  // of the real steps
    Scratch<Real> states_;
};
