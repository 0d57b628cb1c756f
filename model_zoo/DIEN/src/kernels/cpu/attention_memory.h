// What a thread works on: rows as many as have their terms in memory at once, and steps in lanes.
#pragma once

#include "attention_row.h"

// Steps in lanes, of any rows.
struct Steps {
    int count = 0;
    int64_t step[LANES], row[LANES];
};

// Numbers of each of the rows at once.
template <class Real>
struct RowNumbers {
    int64_t stride;
    Buffer<Real> numbers;

    explicit RowNumbers(int64_t size) : stride(round_up(size, WIDTH<Real>)), numbers(ROWS_AT_ONCE * stride) {}
    Real* operator[](int64_t row) { return numbers.data() + row * stride; }
    void add(int64_t row, const Real* from) {
        Real* const to = (*this)[row];
        for (int64_t i = 0; i < stride; i += WIDTH<Real>) store<Real>(to + i, load(to + i) + load(from + i));
    }
};

// A thread's working memory.
template <class Real>
struct AttentionMemory {
    Buffer<Real> input, d_input;  // of a step: [h, q * h]; of a row: [q, 1]
    Buffer<Real> query, zeros;
    RowNumbers<Real> terms, d_terms, d_query;  // (W1 + W3) q + b, and gradients
    StepRows<Real> d_query_rows;
    NetMemory<Real> net;
    AttentionRow<Real> row;

    explicit AttentionMemory(const AttentionProblem<Real>& p)
        : input(2 * p.size * LANES), d_input(2 * p.size * LANES), query((p.size + 1) * LANES), zeros(std::max(p.size, p.net.units[0])),
          terms(p.net.units[0]), d_terms(p.net.units[0]), d_query(p.size), d_query_rows(p.size), net(p.net),
          row(p) {
        std::fill_n(query.data() + p.size * LANES, LANES, Real(1));
    }
};
