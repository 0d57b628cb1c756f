// The auxiliary loss: a net on [h, e] tells from the state h before a step how likely its behaviour e is. The state's
// share of the first layer is computed once for the click and the negatives.
#pragma once

#include <vector>

#include "net.h"
#include "threads.h"

// Mirrored by auxiliary.py. A step's behaviours: the click, then the negatives.
template <class Real>
struct AuxiliaryProblem {
    int64_t steps, state_size, behaviour_size, negatives, threads;
    const Real* states;           // (N, H)
    const Real* clicks;           // (N, D)
    const Real* others;           // (N, negatives, D)
    const Real* positive_weight;  // (N,)
    const Real* negative_weight;  // (N, negatives)
    Net<Real> net;

    Real of_state(int64_t m, int64_t k) const { return net.weights[0][m * (state_size + behaviour_size) + k]; }
    Real of_behaviour(int64_t m, int64_t k) const { return of_state(m, state_size + k); }

    // Sums of the net's; of [h, 1] and of e times the gradients of pre-activations.
    std::vector<Shape> shapes() const {
        std::vector<Shape> shapes = net.shapes();
        shapes.push_back({state_size + 1, net.units[0]});
        shapes.push_back({behaviour_size, net.units[0]});
        return shapes;
    }

    Real weight(int64_t step, int64_t behaviour) const {
        return behaviour ? negative_weight[step * negatives + behaviour - 1] : positive_weight[step];
    }
    // Of numbers that lie as behaviours do.
    template <class Number>
    Number* row(Number* clicks, Number* others, int64_t step, int64_t behaviour) const {
        return behaviour ? others + (step * negatives + behaviour - 1) * behaviour_size : clicks + step * behaviour_size;
    }

    // How many parts of the steps a pass takes, see AttentionProblem.
    int64_t parts() const { return count_parts(net, steps, threads, WeightSums<Real>::bytes_of(shapes())); }

    // The number of the first block of behaviours in lanes behind the steps of a part that begins here.
    int64_t first_block(int64_t step, int64_t part) const { return (step / LANES + part) * (1 + negatives); }
    int64_t blocks() const { return first_block(steps + 1, parts()) + 1 + negatives; }

    // The first step has no state before it.
    bool counts(int64_t step) const {
        if (step == 0 || step == steps) return false;
        const Real* const weights = negative_weight + step * negatives;
        return positive_weight[step] != 0 ||
               std::any_of(weights, weights + negatives, [](Real weight) { return weight != 0; });
    }
};

// Null where none is asked for.
template <class Real>
struct AuxiliaryGradients {
    Real* states;
    Real* clicks;
    Real* others;
    NetGradients<Real> net;
};

template <class Real>
struct AuxiliaryWeights {
    Packed<Real> state, behaviour;      // [W, b], W
    Packed<Real> d_state, d_behaviour;  // transposed
    NetWeights<Real> net;

    explicit AuxiliaryWeights(const AuxiliaryProblem<Real>& p)
        : state(p.net.units[0], p.state_size + 1,
                [&](int64_t m, int64_t k) { return k < p.state_size ? p.of_state(m, k) : p.net.biases[0][m]; }),
          behaviour(p.net.units[0], p.behaviour_size, [&](int64_t m, int64_t k) { return p.of_behaviour(m, k); }),
          d_state(p.state_size, p.net.units[0], [&](int64_t m, int64_t k) { return p.of_state(k, m); }),
          d_behaviour(p.behaviour_size, p.net.units[0], [&](int64_t m, int64_t k) { return p.of_behaviour(k, m); }),
          net(p.net) {}
};

// A thread's working memory.
template <class Real>
struct AuxiliaryMemory {
    Buffer<Real> state, behaviour;  // [h, 1], e
    Buffer<Real> of_state, d_of_state;  // the state's share of the first layer
    Buffer<Real> d_input, zeros;
    NetMemory<Real> net;

    explicit AuxiliaryMemory(const AuxiliaryProblem<Real>& p)
        : state((p.state_size + 1) * LANES), behaviour(p.behaviour_size * LANES), of_state(p.net.units[0] * LANES),
          d_of_state(p.net.units[0] * LANES), d_input(std::max(p.state_size, p.behaviour_size) * LANES),
          zeros(std::max(p.state_size, p.behaviour_size)), net(p.net) {
        std::fill_n(state.data() + p.state_size * LANES, LANES, Real(1));
    }
};
