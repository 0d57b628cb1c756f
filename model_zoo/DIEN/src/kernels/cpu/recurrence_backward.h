#pragma once

#include <vector>

#include "recurrence.h"
#include "weight_sums.h"

// Gradients; null where none is asked for. The weights' three go together.
template <class Real>
struct Gradients {
    Real* x;
    Real* attention;
    Real* state;
    Real* weight_ih;
    Real* weight_hh;
    Real* bias;
};

// What the forward pass left, and the gradients that arrive.
template <class Real>
struct Outcome {
    const Real* states;
    const Real* kept;
    const Real* d_states;  // null: zero
    const Real* d_final;   // null: zero
};

// A thread's working memory of the backward pass.
template <class Real>
struct BackwardMemory {
    Buffer<Real> dh, h, d_states, dx, attention, zeros;
    Buffer<Real> d_gates;  // of pre-activations

    explicit BackwardMemory(const Problem<Real>& p)
        : dh(p.hidden * LANES), h(p.hidden * LANES), d_states(p.hidden * LANES), dx(p.inputs * LANES), attention(LANES),
          zeros(std::max(p.inputs, p.hidden)), d_gates(p.gates() * LANES) {}
};

template <class Real>
struct BackwardWeights {
    Packed<Real> input, state;  // [W_h, W_r, W_u] and [U_r, U_u, U_h], transposed

    explicit BackwardWeights(const Problem<Real>& p)
        : input(p.inputs, p.hidden + p.joint(),
                [&](int64_t m, int64_t k) { return p.weight_ih[p.input_gate(k) * p.inputs + m]; }),
          state(p.hidden, p.hidden + p.joint(),
                [&](int64_t m, int64_t k) { return p.weight_hh[p.state_gate(k) * p.hidden + m]; }) {}
};

// Of the weights' gradients: [x, 1] and h times the gradients of pre-activations.
template <class Real>
std::vector<Shape> sums_of(const Problem<Real>& p) {
    return {{p.inputs + 1, p.hidden + p.joint()}, {p.hidden, p.hidden + p.joint()}};
}

// What is multiplied into the sums, row by row. Rows wait here for others: the more at once, the less do the sums move.
template <class Real>
class WaitingRows {
public:
    explicit WaitingRows(const Problem<Real>& p)
        : p_(p), inputs_(round_up(p.inputs + 1, WIDTH<Real>)), h_(round_up(p.hidden, WIDTH<Real>)),
          d_gates_(round_up(p.gates(), WIDTH<Real>) + WIDTH<Real>) {
        for (int row = 0; row < CAPACITY; ++row) inputs_.row(row)[p.inputs] = 1;
    }

    // The rows of a step: x and h lie in memory, d_gates in lanes.
    void add(int running, const Real* const* x, const Real* const* h, const Real* d_gates, const WeightSums<Real>& sums) {
        if (count_ + running > CAPACITY) multiply_into(sums);
        Real* to[LANES];
        for (int lane = 0; lane < running; ++lane) {
            copy_row(x[lane], p_.inputs, inputs_.row(count_ + lane));
            copy_row(h[lane], p_.hidden, h_.row(count_ + lane));
            to[lane] = d_gates_.row(count_ + lane);
        }
        from_lanes(d_gates, p_.gates(), running, to);
        count_ += running;
    }

    void multiply_into(const WeightSums<Real>& sums) {
        const int vectors = vectors_of<Real>(p_.hidden + p_.joint());
        multiply<Real>(inputs_.matrix(), d_gates_.matrix(), sums[0], p_.inputs + 1, count_,
                       vectors, true);
        multiply<Real>(h_.matrix(), d_gates_.matrix(p_.hidden), sums[1], p_.hidden, count_,
                       vectors, true);
        count_ = 0;
    }

private:
    static constexpr int CAPACITY = 2 * LANES;

    struct Waiting {
        int64_t stride;
        Buffer<Real> numbers;

        explicit Waiting(int64_t stride) : stride(stride), numbers(CAPACITY * stride) {}
        Real* row(int number) { return numbers.data() + number * stride; }
        Matrix<const Real> matrix(int64_t first = 0) const { return {numbers.data() + first, stride}; }
    };

    const Problem<Real>& p_;
    Waiting inputs_, h_, d_gates_;
    int count_ = 0;
};

// From the gradient dh of the state after a step: of the pre-activations, of attention, and dh's direct way to the
// state before. Lanes that do not run keep dh and add nothing.
template <class Real, Kind KIND>
void differentiate(const Problem<Real>& p, int running, const Real* kept, BackwardMemory<Real>& memory,
                   Real* d_attention) {
    constexpr int W = WIDTH<Real>;
    const int64_t H = p.hidden * LANES, U_h = H + p.joint() * LANES;
    const Real *const h = memory.h.data(), *const d_states = memory.d_states.data();
    const Real* const attention = memory.attention.data();
    Real *const d_gates = memory.d_gates.data(), *const dh = memory.dh.data();
    const Vector<Real> one = all<Real>(1), zero = {};
    for (int lane = 0; lane < running; lane += W) {
        const Vector<Real> a = load(attention + lane);
        const Integers<Real> runs = lanes_below<Real>(running, lane);
        Vector<Real> da = zero;
        for (int64_t i = lane; i < H; i += LANES) {
            const Vector<Real> candidate = load(kept), r = load(kept + W), U_h_h = load(kept + 2 * W);
            const Vector<Real> u = KIND == AGRU ? zero : load(kept + 3 * W);
            kept += kept_vectors(KIND) * W;
            const Vector<Real> d = load(dh + i) + load(d_states + i);
            const Vector<Real> gate = scaled_gate<Real>(KIND, u, a);
            const Vector<Real> d_gate = d * (candidate - load(h + i));
            const Vector<Real> d_candidate = d * gate * (one - candidate * candidate);
            const Vector<Real> d_r = d_candidate * U_h_h * r * (one - r);
            store<Real>(dh + i, runs ? d - d * gate : d);
            store<Real>(d_gates + i, runs ? d_candidate : zero);
            store<Real>(d_gates + H + i, runs ? d_r : zero);
            store<Real>(d_gates + U_h + i, runs ? d_candidate * r : zero);
            if constexpr (KIND == AGRU) {
                da += d_gate;
            } else {
                const Vector<Real> d_u = KIND == AUGRU ? a * d_gate : KIND == AUGRU_TENSORFLOW ? (one - a) * d_gate : d_gate;
                da += d_gate * (KIND == AUGRU ? u : one - u);
                store<Real>(d_gates + 2 * H + i, runs ? d_u * u * (one - u) : zero);
            }
        }
        store<Real>(d_attention + lane, da);
    }
}

// sums: null where no gradient of weights is asked for.
template <class Real>
void backward_block(const Problem<Real>& p, const Block& block, const Outcome<Real>& outcome, const Real* kept,
                    const BackwardWeights<Real>& weights, BackwardMemory<Real>& memory, WaitingRows<Real>& waiting,
                    const Gradients<Real>& gradients, const WeightSums<Real>* sums) {
    const int64_t I = p.inputs, H = p.hidden;
    const Real* const zeros = memory.zeros.data();
    Real *const dh = memory.dh.data(), *const d_gates = memory.d_gates.data();
    Real* rows[LANES];
    const Rows<Real> d_final(outcome.d_final ? block.rows : 0, zeros,
                             [&](int lane) { return outcome.d_final + block.row[lane] * H; });
    to_lanes(d_final.at, H, vectors_of<Real>(block.rows), dh);
    for (int64_t t = block.steps() - 1; t >= 0; --t) {
        const int running = block.running(t), vectors = vectors_of<Real>(running);
        const auto step = [&](int lane) { return block.first[lane] + t; };
        if (outcome.d_states) {
            const Rows<Real> d_states(running, zeros, [&](int lane) { return outcome.d_states + step(lane) * H; });
            to_lanes(d_states.at, H, vectors, memory.d_states.data());
            prefetch_rows(d_states.at, running, H, -1);
        }
        const Rows<Real> before(running, zeros, [&](int lane) {
            return t ? outcome.states + (step(lane) - 1) * H : p.state + block.row[lane] * H;
        });
        to_lanes(before.at, H, vectors, memory.h.data());
        if (t > 1) prefetch_rows(before.at, running, H, -1);
        for (int lane = 0; p.attention && lane < running; ++lane) {
            memory.attention.data()[lane] = p.attention[step(lane)];
        }
        alignas(64) Real d_attention[LANES];
        const Real* const kept_here = kept_of(p, kept, block.steps(), t);
        switch (p.kind) {
            case GRU: differentiate<Real, GRU>(p, running, kept_here, memory, d_attention); break;
            case AGRU: differentiate<Real, AGRU>(p, running, kept_here, memory, d_attention); break;
            case AUGRU: differentiate<Real, AUGRU>(p, running, kept_here, memory, d_attention); break;
            case AUGRU_TENSORFLOW: differentiate<Real, AUGRU_TENSORFLOW>(p, running, kept_here, memory, d_attention); break;
        }
        for (int lane = 0; gradients.attention && lane < running; ++lane) {
            gradients.attention[step(lane)] = d_attention[lane];
        }
        weights.state.multiply({d_gates + H * LANES, LANES}, {dh, LANES}, vectors, true);
        if (gradients.x) {
            weights.input.multiply({d_gates, LANES}, {memory.dx.data(), LANES}, vectors);
            for (int lane = 0; lane < running; ++lane) rows[lane] = gradients.x + step(lane) * I;
            from_lanes(memory.dx.data(), I, running, rows);
            prefetch_rows<Real>(rows, running, I, -1);
        }
        if (sums) {
            const Rows<Real> x(running, zeros, [&](int lane) { return p.x + step(lane) * I; });
            waiting.add(running, x.at, before.at, d_gates, *sums);
            prefetch_rows(x.at, running, I, -1);
        }
    }
    if (sums) waiting.multiply_into(*sums);
    if (gradients.state) {
        for (int lane = 0; lane < block.rows; ++lane) rows[lane] = gradients.state + block.row[lane] * H;
        from_lanes(dh, H, block.rows, rows);
    }
}

template <class Real>
void write_weights(const Problem<Real>& p, const WeightSums<Real>& sums, const Gradients<Real>& gradients) {
    const Matrix<Real> input = sums[0], state = sums[1];
    for (int64_t m = 0; m < p.hidden + p.joint(); ++m) {
        const int64_t input_gate = p.input_gate(m), state_gate = p.state_gate(m);
        for (int64_t i = 0; i < p.inputs; ++i) {
            gradients.weight_ih[input_gate * p.inputs + i] = input.first[i * input.stride + m];
        }
        gradients.bias[input_gate] = input.first[p.inputs * input.stride + m];
        for (int64_t i = 0; i < p.hidden; ++i) {
            gradients.weight_hh[state_gate * p.hidden + i] = state.first[i * state.stride + m];
        }
    }
}

// The weights' gradients are zero where a kind does not use them: the caller has zeroed them.
template <class Real>
void backward(const Problem<Real>& p, const Outcome<Real>& outcome, const Gradients<Real>& gradients) {
    // Every thread takes several parts of the blocks, so that none waits long for the last; few where they are large.
    constexpr int64_t MEMORY = 64 << 20;
    const std::vector<Shape> shapes = sums_of(p);
    const int64_t parts_each = std::clamp<int64_t>(MEMORY / (WeightSums<Real>::bytes_of(shapes) * p.threads), 1, 8);
    const int64_t parts = std::min(p.blocks, p.threads * parts_each);
    const BackwardWeights<Real> weights(p);
    std::vector<BackwardMemory<Real>> memory;
    for (int64_t i = 0; i < p.threads; ++i) memory.emplace_back(p);
    std::vector<WaitingRows<Real>> waiting;
    for (int64_t i = 0; i < p.threads; ++i) waiting.emplace_back(p);
    std::vector<WeightSums<Real>> sums;
    for (int64_t i = 0; gradients.bias && i < parts; ++i) sums.emplace_back(shapes);
#pragma omp parallel for schedule(dynamic, 1) num_threads(p.threads)
    for (int64_t part = 0; part < parts; ++part) {
        for (int64_t b = part; b < p.blocks; b += parts) {
            backward_block(p, Block(p, b), outcome, outcome.kept + p.first_step[b] * p.gates() * LANES, weights,
                           memory[worker()], waiting[worker()], gradients, sums.empty() ? nullptr : &sums[part]);
        }
    }
    if (!sums.empty()) write_weights(p, WeightSums<Real>::total(sums, p.threads), gradients);
}
