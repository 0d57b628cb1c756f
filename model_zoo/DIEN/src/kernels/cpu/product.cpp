// Compiled once for all that multiply.
#include "product.h"

namespace {

// Neighbours in a row of A are STEP apart.
template <class Real, int STEP, int ROWS, int VECTORS>
void multiply_tile(Matrix<const Real> A, Matrix<const Real> B, Matrix<Real> C, int64_t inner, bool accumulate) {
    constexpr int W = WIDTH<Real>;
    Vector<Real> sums[ROWS][VECTORS] = {};
    const Real *a = A.first, *b = B.first;
    for (int64_t k = 0; k < inner; ++k, a += A.stride, b += B.stride) {
        Vector<Real> row[VECTORS];
        UNROLLED
        for (int v = 0; v < VECTORS; ++v) row[v] = load(b + v * W);
        UNROLLED
        for (int m = 0; m < ROWS; ++m) {
            UNROLLED
            for (int v = 0; v < VECTORS; ++v) sums[m][v] += a[m * STEP] * row[v];
        }
    }
    if (accumulate) {
        UNROLLED
        for (int m = 0; m < ROWS; ++m) {
            UNROLLED
            for (int v = 0; v < VECTORS; ++v) sums[m][v] += load(C.first + m * C.stride + v * W);
        }
    }
    UNROLLED
    for (int m = 0; m < ROWS; ++m) {
        UNROLLED
        for (int v = 0; v < VECTORS; ++v) store<Real>(C.first + m * C.stride + v * W, sums[m][v]);
    }
}

// rows <= ROWS rows of C, and as many vectors as it is wide.
template <class Real, int STEP = 1, int ROWS = TILE_ROWS>
void multiply_rows(int rows, Matrix<const Real> A, Matrix<const Real> B, Matrix<Real> C, int64_t inner, int vectors,
                   bool accumulate) {
    if (rows == ROWS) {
        for (; vectors >= TILE_VECTORS; vectors -= TILE_VECTORS) {
            multiply_tile<Real, STEP, ROWS, TILE_VECTORS>(A, B, C, inner, accumulate);
            B.first += TILE_VECTORS * WIDTH<Real>;
            C.first += TILE_VECTORS * WIDTH<Real>;
        }
        if (vectors) multiply_tile<Real, STEP, ROWS, 1>(A, B, C, inner, accumulate);
    } else if constexpr (ROWS > 1) {
        multiply_rows<Real, STEP, ROWS - 1>(rows, A, B, C, inner, vectors, accumulate);
    }
}

template <class Real>
Matrix<Real> rows_from(Matrix<Real> C, int64_t first) {
    return {C.first + first * C.stride, C.stride};
}

}  // namespace

template <class Real>
void multiply(Matrix<const Real> A, Matrix<const Real> B, Matrix<Real> C, int64_t rows, int64_t inner, int vectors,
              bool accumulate) {
    for_each_tile(rows, [&](int64_t first, int size) {
        multiply_rows<Real>(size, {A.first + first, A.stride}, B, rows_from(C, first), inner, vectors, accumulate);
    });
}

template <class Real>
void multiply_lanes(const Real* A, Matrix<const Real> B, Matrix<Real> C, int64_t rows, int64_t lanes, int vectors,
                    bool accumulate) {
    for_each_tile(rows, [&](int64_t first, int size) {
        multiply_rows<Real, LANES>(size, {A + first * LANES, 1}, B, rows_from(C, first), lanes, vectors, accumulate);
    });
}

template <class Real>
void multiply_packed(const Real* A, Matrix<const Real> B, Matrix<Real> C, int64_t rows, int64_t inner, int vectors,
                     bool accumulate) {
    for_each_tile(rows, [&](int64_t first, int size) {
        multiply_rows<Real>(size, {A + first * inner, size}, B, rows_from(C, first), inner, vectors, accumulate);
    });
}

#define FOR_TYPE(Real)                                                                                          \
    template void multiply(Matrix<const Real>, Matrix<const Real>, Matrix<Real>, int64_t, int64_t, int, bool);  \
    template void multiply_lanes(const Real*, Matrix<const Real>, Matrix<Real>, int64_t, int64_t, int, bool);   \
    template void multiply_packed(const Real*, Matrix<const Real>, Matrix<Real>, int64_t, int64_t, int, bool);

FOR_TYPE(float)
FOR_TYPE(double)
