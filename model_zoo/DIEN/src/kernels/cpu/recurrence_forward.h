#pragma once

#include <vector>

#include "functions.h"
#include "recurrence.h"
#include "product.h"

// A thread's working memory of the forward pass.
template <class Real>
struct ForwardMemory {
    Buffer<Real> input;  // rows [x, 1, h] of lanes: the bias is the weight of an input that is always 1
    Buffer<Real> gates;
    Buffer<Real> zeros;
    Buffer<Real> attention;

    explicit ForwardMemory(const Problem<Real>& p)
        : input((p.inputs + 1 + p.hidden) * LANES), gates(p.gates() * LANES), zeros(std::max(p.inputs, p.hidden)),
          attention(LANES) {
        std::fill_n(input.data() + p.inputs * LANES, LANES, Real(1));
    }
};

template <class Real>
struct ForwardWeights {
    Packed<Real> input_candidate, joint, state_candidate;

    explicit ForwardWeights(const Problem<Real>& p)
        : input_candidate(p.hidden, p.inputs + 1, [&](int64_t m, int64_t k) { return input(p, p.input_gate(m), k); }),
          joint(p.joint(), p.inputs + 1 + p.hidden,
                [&](int64_t m, int64_t k) {
                    const int64_t gate = p.joint_gate(m);
                    return k <= p.inputs ? input(p, gate, k) : p.weight_hh[gate * p.hidden + k - p.inputs - 1];
                }),
          state_candidate(p.hidden, p.hidden, [&](int64_t m, int64_t k) {
              return p.weight_hh[p.state_gate(p.joint() + m) * p.hidden + k];
          }) {}

private:
    static Real input(const Problem<Real>& p, int64_t gate, int64_t k) {
        return k < p.inputs ? p.weight_ih[gate * p.inputs + k] : p.bias[gate];
    }
};

// Activates the gates of a step, keeps them unless kept is null, and moves h on where lanes run.
template <class Real, Kind KIND>
void activate(const Problem<Real>& p, int running, const Real* attention, const Real* gates, Real* h, Real* kept) {
    constexpr int W = WIDTH<Real>;
    const int64_t H = p.hidden * LANES, U_h = H + p.joint() * LANES;
    for (int lane = 0; lane < running; lane += W) {
        const Vector<Real> a = load(attention + lane);
        const Integers<Real> runs = lanes_below<Real>(running, lane);
        for (int64_t i = lane; i < H; i += LANES) {
            const Vector<Real> r = sigmoid<Real>(load(gates + H + i));
            const Vector<Real> u = KIND == AGRU ? Vector<Real>{} : sigmoid<Real>(load(gates + 2 * H + i));
            const Vector<Real> U_h_h = load(gates + U_h + i);
            const Vector<Real> candidate = tanh<Real>(load(gates + i) + r * U_h_h);
            const Vector<Real> before = load(h + i);
            const Vector<Real> after = before + scaled_gate<Real>(KIND, u, a) * (candidate - before);
            store<Real>(h + i, runs ? after : before);
            if (!kept) continue;
            store<Real>(kept, candidate);
            store<Real>(kept + W, r);
            store<Real>(kept + 2 * W, U_h_h);
            if (KIND != AGRU) store<Real>(kept + 3 * W, u);
            kept += kept_vectors(KIND) * W;
        }
    }
}

// kept: for the backward pass, or null.
template <class Real>
void forward_block(const Problem<Real>& p, const Block& block, const ForwardWeights<Real>& weights,
                   ForwardMemory<Real>& memory, Real* states, Real* final, Real* kept) {
    Real *const x = memory.input.data(), *const one = x + p.inputs * LANES, *const h = one + LANES;
    Real *const gates = memory.gates.data(), *const attention = memory.attention.data();
    const Rows<Real> before(block.rows, memory.zeros.data(),
                            [&](int lane) { return p.state + block.row[lane] * p.hidden; });
    to_lanes(before.at, p.hidden, vectors_of<Real>(block.rows), h);
    Real* rows[LANES];
    for (int64_t t = 0; t < block.steps(); ++t) {
        const int running = block.running(t), vectors = vectors_of<Real>(running);
        const Rows<Real> inputs(running, memory.zeros.data(),
                                [&](int lane) { return p.x + (block.first[lane] + t) * p.inputs; });
        to_lanes(inputs.at, p.inputs, vectors, x);
        prefetch_rows(inputs.at, running, p.inputs, 1);
        weights.input_candidate.multiply({x, LANES}, {gates, LANES}, vectors);
        weights.joint.multiply({x, LANES}, {gates + p.hidden * LANES, LANES}, vectors);
        weights.state_candidate.multiply({h, LANES}, {gates + (p.hidden + p.joint()) * LANES, LANES}, vectors);
        if (p.attention) {
            for (int lane = 0; lane < running; ++lane) attention[lane] = p.attention[block.first[lane] + t];
        }
        Real* const kept_here = kept ? kept_of(p, kept, block.steps(), t) : nullptr;
        switch (p.kind) {
            case GRU: activate<Real, GRU>(p, running, attention, gates, h, kept_here); break;
            case AGRU: activate<Real, AGRU>(p, running, attention, gates, h, kept_here); break;
            case AUGRU: activate<Real, AUGRU>(p, running, attention, gates, h, kept_here); break;
            case AUGRU_TENSORFLOW: activate<Real, AUGRU_TENSORFLOW>(p, running, attention, gates, h, kept_here); break;
        }
        for (int lane = 0; lane < running; ++lane) rows[lane] = states + (block.first[lane] + t) * p.hidden;
        from_lanes(h, p.hidden, running, rows);
        prefetch_rows<Real>(rows, running, p.hidden, 1);
    }
    for (int lane = 0; lane < block.rows; ++lane) rows[lane] = final + block.row[lane] * p.hidden;
    from_lanes(h, p.hidden, block.rows, rows);
}

// kept: (steps of all blocks, gates, LANES), for the backward pass, or null.
template <class Real>
void forward(const Problem<Real>& p, Real* states, Real* final, Real* kept) {
    const ForwardWeights<Real> weights(p);
    std::vector<ForwardMemory<Real>> memory;
    for (int64_t i = 0; i < p.threads; ++i) memory.emplace_back(p);
#pragma omp parallel for schedule(dynamic, 1) num_threads(p.threads)
    for (int64_t b = 0; b < p.blocks; ++b) {
        Real* const kept_here = kept ? kept + p.first_step[b] * p.gates() * LANES : nullptr;
        forward_block(p, Block(p, b), weights, memory[worker()], states, final, kept_here);
    }
}
