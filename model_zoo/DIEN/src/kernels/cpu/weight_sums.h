// The weights' gradients: sums over steps, which every part of the work makes for itself.
#pragma once

#include <vector>

#include "memory.h"
#include "product.h"

struct Shape {
    int64_t rows, columns;
};

// Matrices one behind the other, zero at first; their rows are whole vectors.
template <class Real>
class WeightSums {
public:
    explicit WeightSums(const std::vector<Shape>& shapes) : numbers_(size_of(shapes)), size_(size_of(shapes)) {
        Real* first = numbers_.data();
        for (const Shape& shape : shapes) {
            const int64_t stride = round_up(shape.columns, WIDTH<Real>);
            matrices_.push_back({first, stride});
            first += shape.rows * stride;
        }
    }

    Matrix<Real> operator[](int64_t number) const { return matrices_[number]; }

    static int64_t bytes_of(const std::vector<Shape>& shapes) {
        return size_of(shapes) * static_cast<int64_t>(sizeof(Real));
    }

    // Adds the parts to the first one in their order, whichever thread made them.
    static WeightSums& total(std::vector<WeightSums>& parts, int64_t threads) {
        constexpr int64_t PIECE = 1 << 12;
        const int64_t size = parts[0].size_;
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t piece = 0; piece < size; piece += PIECE) {
            const int64_t end = std::min(size, piece + PIECE);
            for (size_t part = 1; part < parts.size(); ++part) {
                for (int64_t i = piece; i < end; ++i) parts[0].numbers_.data()[i] += parts[part].numbers_.data()[i];
            }
        }
        return parts[0];
    }

private:
    static int64_t size_of(const std::vector<Shape>& shapes) {
        int64_t size = 0;
        for (const Shape& shape : shapes) size += shape.rows * round_up(shape.columns, WIDTH<Real>);
        return size;
    }

    Buffer<Real> numbers_;
    int64_t size_;
    std::vector<Matrix<Real>> matrices_;
};

// to[m][k] = sums[k][m] for a matrix `to` of a stride of its own, as weights lie.
template <class Real>
void write_transposed(Matrix<const Real> sums, int64_t rows, int64_t columns, Matrix<Real> to) {
    for (int64_t m = 0; m < columns; ++m) {
        for (int64_t k = 0; k < rows; ++k) to.first[m * to.stride + k] = sums.first[k * sums.stride + m];
    }
}
