// Matrix products over vectors: C[m][n] = sum_k A[k][m] B[k][n], a tile of C at a time in registers.
#pragma once

#include "lanes.h"
#include "memory.h"

template <class Real>
struct Matrix {
    Real* first;
    int64_t stride;  // between rows
};

// The product for an A that lies in memory as it is written, k by k; C is as many vectors wide.
template <class Real>
void multiply(Matrix<const Real> A, Matrix<const Real> B, Matrix<Real> C, int64_t rows, int64_t inner, int vectors,
              bool accumulate);

// The product for an A in lanes: k is the lane, m the number.
template <class Real>
void multiply_lanes(const Real* A, Matrix<const Real> B, Matrix<Real> C, int64_t rows, int64_t lanes, int vectors,
                    bool accumulate);

// The product for an A whose tiles are packed one behind the other.
template <class Real>
void multiply_packed(const Real* A, Matrix<const Real> B, Matrix<Real> C, int64_t rows, int64_t inner, int vectors,
                     bool accumulate);

constexpr int TILE_ROWS = REGISTERS == 32 ? 12 : 6, TILE_VECTORS = 2;

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

// A packed A; at(m, k) gives its numbers.
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
        multiply_packed<Real>(numbers_.data(), B, C, rows_, inner_, vectors, accumulate);
    }

private:
    int64_t rows_, inner_;
    Buffer<Real> numbers_;
};
