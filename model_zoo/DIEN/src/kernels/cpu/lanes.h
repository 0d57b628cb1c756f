// Rows in the lanes of vectors: number i of LANES rows lies side by side, at lanes[i * LANES].
#pragma once

#include <algorithm>

#include "vector.h"

constexpr int LANES = 32;  // mirrored by layout.py

template <class Real>
int vectors_of(int lanes) {
    return (lanes + WIDTH<Real> - 1) / WIDTH<Real>;
}

// Where the rows of the first lanes are; lanes beside them, up to a whole vector, read zeros.
template <class Real>
struct Rows {
    const Real* at[LANES];

    template <class At>
    Rows(int count, const Real* zeros, At row_of) {
        for (int lane = 0; lane < LANES; ++lane) at[lane] = lane < count ? row_of(lane) : zeros;
    }
};

// Of vectors * WIDTH rows, the first size numbers.
template <class Real>
void to_lanes(const Real* const* rows, int64_t size, int vectors, Real* lanes);

// The first count lanes, back to rows.
template <class Real>
void from_lanes(const Real* lanes, int64_t size, int count, Real* const* rows);

// Calls square(first) for squares that cover 0..size; the last one overlaps the one before. size >= WIDTH.
template <class Real, class Square>
inline void for_each_square(int64_t size, Square square) {
    for (int64_t first = 0; first < size; first += WIDTH<Real>) square(std::min(first, size - WIDTH<Real>));
}

template <class Real>
inline void copy_row(const Real* from, int64_t size, Real* to) {
    if (size < WIDTH<Real>) {
        for (int64_t i = 0; i < size; ++i) to[i] = from[i];
    } else {
        for_each_square<Real>(size, [&](int64_t first) { store<Real>(to + first, load(from + first)); });
    }
}
