// DIN's attention unit, a net on [q, h, q - h, q * h] of a row's query q and its steps' states h. Its first layer
// [W1, W2, W3, W4] is computed as (W1 + W3) q + b, once a row, + (W2 - W3) h + W4 (q * h).
#pragma once

#include <vector>

#include "net.h"
#include "threads.h"

constexpr int64_t ROWS_AT_ONCE = 4 * LANES;

// Mirrored by native_attention.py.
template <class Real>
struct AttentionProblem {
    int64_t rows, size, threads, shared;
    const int64_t* offsets;  // (B + 1,): row b has the steps offsets[b] to offsets[b + 1]
    const Real* states;      // (N, H); where rows share them, (N / B, H), and there is no backward pass
    const Real* query;       // (B, H)
    Net<Real> net;

    int64_t steps() const { return offsets[rows]; }
    const Real* state(int64_t row, int64_t step) const { return states + (shared ? step - offsets[row] : step) * size; }

    // Number k of the weights of unit m in each quarter of the first layer.
    Real weight(int64_t m, int64_t quarter, int64_t k) const {
        return net.weights[0][(m * 4 + quarter) * size + k];
    }
    Real of_query(int64_t m, int64_t k) const { return weight(m, 0, k) + weight(m, 2, k); }
    Real of_state(int64_t m, int64_t k) const { return weight(m, 1, k) - weight(m, 2, k); }
    Real of_product(int64_t m, int64_t k) const { return weight(m, 3, k); }

    // Sums of the net's; of [q, 1] and of [h, q * h] times the gradients of pre-activations.
    std::vector<Shape> shapes() const {
        std::vector<Shape> shapes = net.shapes();
        shapes.push_back({size + 1, net.units[0]});
        shapes.push_back({2 * size, net.units[0]});
        return shapes;
    }

    // How many parts of the rows a pass takes, with sums of weights' gradients or without. What is kept is found by parts:
    // they are the same in all passes.
    int64_t parts(bool with_sums) const {
        return count_parts(net, steps(), threads,
                           with_sums || net.has_sums() ? WeightSums<Real>::bytes_of(shapes()) : 1);
    }

    // The number of the first block of steps in lanes of the rows that have their terms in memory at once.
    int64_t first_block(int64_t row, int64_t part) const {
        return offsets[row] / LANES + row / ROWS_AT_ONCE + part;
    }
    int64_t blocks() const { return first_block(rows, parts(true)) + 1; }

    // Where a part's rows begin; it ends where the next one begins. Parts have nearly as many steps.
    int64_t first_row(int64_t part, int64_t parts) const {
        if (part == parts) return rows;
        return std::lower_bound(offsets, offsets + rows, steps() * part / parts) - offsets;
    }
};

// Null where none is asked for.
template <class Real>
struct AttentionGradients {
    Real* states;
    Real* query;
    NetGradients<Real> net;
};

template <class Real>
struct AttentionWeights {
    Packed<Real> query, step;      // [W1 + W3, b], [W2 - W3, W4]
    Packed<Real> d_query, d_step;  // transposed
    NetWeights<Real> net;

    explicit AttentionWeights(const AttentionProblem<Real>& p)
        : query(p.net.units[0], p.size + 1,
                [&](int64_t m, int64_t k) { return k < p.size ? p.of_query(m, k) : p.net.biases[0][m]; }),
          step(p.net.units[0], 2 * p.size, [&](int64_t m, int64_t k) { return of_step(p, m, k); }),
          d_query(p.size, p.net.units[0], [&](int64_t m, int64_t k) { return p.of_query(k, m); }),
          d_step(2 * p.size, p.net.units[0], [&](int64_t m, int64_t k) { return of_step(p, k, m); }), net(p.net) {}

private:
    static Real of_step(const AttentionProblem<Real>& p, int64_t m, int64_t k) {
        return k < p.size ? p.of_state(m, k) : p.of_product(m, k - p.size);
    }
};
