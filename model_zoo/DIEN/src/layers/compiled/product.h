// Matrix products over vectors: C[m][n] = sum_k A[k][m] B[k][n], a tile of C at a time in registers.
#pragma once

#include "memory.h"
#include "vector.h"

constexpr int TILE_ROWS = REGISTERS == 32 ? 12 : 6, TILE_VECTORS = 2;

template <class Real>
struct Matrix {
    Real* first;
    int64_t stride;  // between rows
};

template <class Real, int ROWS, int VECTORS>
void multiply_tile(Matrix<const Real> A, Matrix<const Real> B, Matrix<Real> C, int64_t inner, bool accumulate) {
    constexpr int W = WIDTH<Real>;
    Vector<Real> sums[ROWS][VECTORS];
    UNROLLED
    for (int m = 0; m < ROWS; ++m) {
        UNROLLED
        for (int v = 0; v < VECTORS; ++v) {
            sums[m][v] = accumulate ? load(C.first + m * C.stride + v * W) : Vector<Real>{};
        }
    }
    const Real *a = A.first, *b = B.first;
    for (int64_t k = 0; k < inner; ++k, a += A.stride, b += B.stride) {
        Vector<Real> row[VECTORS];
        UNROLLED
        for (int v = 0; v < VECTORS; ++v) row[v] = load(b + v * W);
        UNROLLED
        for (int m = 0; m < ROWS; ++m) {
            UNROLLED
            for (int v = 0; v < VECTORS; ++v) sums[m][v] += a[m] * row[v];
        }
    }
    UNROLLED
    for (int m = 0; m < ROWS; ++m) {
        UNROLLED
        for (int v = 0; v < VECTORS; ++v) store<Real>(C.first + m * C.stride + v * W, sums[m][v]);
    }
}

// rows <= ROWS rows of C, and as many vectors as it is wide.
template <class Real, int ROWS = TILE_ROWS>
void multiply_rows(int rows, Matrix<const Real> A, Matrix<const Real> B, Matrix<Real> C, int64_t inner, int vectors,
                   bool accumulate) {
    if (rows == ROWS) {
        for (; vectors >= TILE_VECTORS; vectors -= TILE_VECTORS) {
            multiply_tile<Real, ROWS, TILE_VECTORS>(A, B, C, inner, accumulate);
            B.first += TILE_VECTORS * WIDTH<Real>;
            C.first += TILE_VECTORS * WIDTH<Real>;
        }
        if (vectors) multiply_tile<Real, ROWS, 1>(A, B, C, inner, accumulate);
    } else if constexpr (ROWS > 1) {
        multiply_rows<Real, ROWS - 1>(rows, A, B, C, inner, vectors, accumulate);
    }
}

// Calls tile(first, rows) for tiles of nearly the same size.
template <class Tile>
void for_each_tile(int64_t rows, Tile tile) {
    const int64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t i = 0, first = 0; i < tiles; ++i) {
        const int size = static_cast<int>(rows / tiles + (i < rows % tiles));
        tile(first, size);
        first += size;
    }
}

// The product for an A that lies in memory as it is written, k by k.
template <class Real>
void multiply(Matrix<const Real> A, Matrix<const Real> B, Matrix<Real> C, int64_t rows, int64_t inner, int vectors,
              bool accumulate) {
    for_each_tile(rows, [&](int64_t first, int size) {
        multiply_rows<Real>(size, {A.first + first, A.stride}, B, {C.first + first * C.stride, C.stride}, inner, vectors,
                            accumulate);
    });
}

// An A whose tiles are packed one behind the other; at(m, k) gives its numbers.
template <class Real>
class Packed {
public:
    template <class At>
    Packed(int64_t rows, int64_t inner, At at) : rows_(rows), inner_(inner), numbers_(rows * inner) {
        for_each_tile(rows, [&](int64_t first, int size) {
            Real* to = numbers_.data() + first * inner;
            for (int64_t k = 0; k < inner; ++k) {
                for (int m = 0; m < size; ++m) *to++ = at(first + m, k);
            }
        });
    }

    void multiply(Matrix<const Real> B, Matrix<Real> C, int vectors, bool accumulate = false) const {
        for_each_tile(rows_, [&](int64_t first, int size) {
            multiply_rows<Real>(size, {numbers_.data() + first * inner_, size}, B,
                                {C.first + first * C.stride, C.stride}, inner_, vectors, accumulate);
        });
    }

private:
    int64_t rows_, inner_;
    Buffer<Real> numbers_;
};
