// What the recurrence computes, and its division into blocks of rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lanes.h"
#include "memory.h"
#include "threads.h"

// Mirrored by layout.py. AIGRU is a GRU where each row has inputs of its own: they come scaled.
enum Kind : int64_t { GRU, AIGRU, AGRU, AUGRU, AUGRU_TENSORFLOW };

// Mirrored by gru.py. B rows of N steps in all; weights and bias are stacked as [u, r, candidate].
template <class Real>
struct Problem {
    int64_t rows, inputs, hidden, kind, threads, blocks, rows_per_block;
    const int64_t* offsets;     // (B + 1,): row b has the steps offsets[b] to offsets[b + 1]
    const int64_t* order;       // (B,): rows, the longest first
    const int64_t* first_step;  // (blocks,): where a block's steps begin in what is kept for the backward pass
    const Real* x;              // (N, inputs)
    const Real* attention;      // (N,), null for the GRU
    const Real* state;          // (B, H)
    const Real* weight_ih;      // (3H, inputs)
    const Real* weight_hh;      // (3H, H)
    const Real* bias;           // (3H,)

    // Pre-activations lie as [W_h x, r, u, U_h h], H rows each: what comes from x without a gap, and what comes from h.
    // AGRU has no u.
    int64_t joint() const { return kind == AGRU ? hidden : 2 * hidden; }
    int64_t gates() const { return 2 * hidden + joint(); }

    // The row of the stacked weights that makes row m of [W_h, W_r, W_u].
    int64_t input_gate(int64_t m) const { return m < hidden ? 2 * hidden + m : joint_gate(m - hidden); }
    // The row of the stacked weights that makes row m of [U_r, U_u, U_h].
    int64_t state_gate(int64_t m) const { return m < joint() ? joint_gate(m) : 2 * hidden + m - joint(); }
    int64_t joint_gate(int64_t m) const { return m < hidden ? hidden + m : m - hidden; }
};

// What a step leaves for the backward pass lies as that reads it, in one stream: the last step of a block first, and in
// a step, for each vector of lanes and each unit of the state, [candidate, r, U_h h, u]. AGRU has no u.
constexpr int kept_vectors(Kind kind) { return kind == AGRU ? 3 : 4; }

template <class Real, class Number>
Number* kept_of(const Problem<Real>& p, Number* kept, int64_t steps, int64_t t) {
    return kept + (steps - 1 - t) * p.gates() * LANES;
}

// Up to LANES rows that advance together, a row a lane, the longest first.
struct Block {
    int rows;
    int64_t row[LANES], first[LANES], length[LANES];

    template <class Real>
    Block(const Problem<Real>& problem, int64_t number) {
        const int64_t begin = number * problem.rows_per_block;
        rows = static_cast<int>(std::min(problem.rows_per_block, problem.rows - begin));
        for (int lane = 0; lane < rows; ++lane) {
            row[lane] = problem.order[begin + lane];
            first[lane] = problem.offsets[row[lane]];
            length[lane] = problem.offsets[row[lane] + 1] - first[lane];
        }
    }

    int64_t steps() const { return length[0]; }

    // How many lanes have not finished before step t.
    int running(int64_t t) const {
        int count = rows;
        while (count > 0 && length[count - 1] <= t) --count;
        return count;
    }
};

// All bits set in the lanes first_lane, first_lane + 1, ... that are below running.
template <class Real>
Integers<Real> lanes_below(int running, int first_lane) {
    Integers<Real> lane;
    for (int i = 0; i < WIDTH<Real>; ++i) lane[i] = first_lane + i;
    return lane < Integers<Real>{} + running;
}

// The gate that weighs the candidate, from u and attention a.
template <class Real>
Vector<Real> scaled_gate(Kind kind, Vector<Real> u, Vector<Real> a) {
    switch (kind) {
        case AGRU: return a;                    // (10)
        case AUGRU: return a * u;               // (11)
        case AUGRU_TENSORFLOW: return a + u - a * u;  // 1 - (1 - a) (1 - u)
        default: return u;
    }
}
