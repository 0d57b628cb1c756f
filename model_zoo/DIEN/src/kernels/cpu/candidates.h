// What the recurrence of candidates that share their inputs computes.
#pragma once

#include "recurrence.h"

// Mirrored by native_candidates.py. B rows of T steps each; gates are stacked as [u, r, candidate].
template <class Real>
struct Candidates {
    int64_t rows, steps, hidden, kind, threads;
    const Real* inputs;     // (T, 3H), W x of each step
    const Real* attention;  // (T, B)
    const Real* state;      // (B, H)
    const Real* weight_hh;  // (3H, H)
    const Real* bias;       // (3H,)
};
