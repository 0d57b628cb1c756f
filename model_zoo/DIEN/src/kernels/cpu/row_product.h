// Products whose results are rows: y = W x for one row, or for rows that lie in lanes.
#pragma once

#include "product.h"

template <class Real>
class RowProduct {
public:
    // at(m, k) gives the numbers of W, (outputs, inputs).
    template <class At>
    RowProduct(int64_t outputs, int64_t inputs, At at)
        : inputs_(inputs), stride_(round_up(outputs, WIDTH<Real>)), by_input_(inputs * stride_) {
        for (int64_t k = 0; k < inputs; ++k) {
            for (int64_t m = 0; m < outputs; ++m) by_input_.data()[k * stride_ + m] = at(m, k);
        }
    }

    int64_t stride() const { return stride_; }  // of y: whole vectors

    void of_row(const Real* x, Real* y) const { run({x, 1}, 1, y); }
    void of_lanes(const Real* x, int count, Real* y) const { run({x, LANES}, count, y); }

private:
    void run(Matrix<const Real> x, int rows, Real* y) const {
        multiply<Real>(x, {by_input_.data(), stride_}, {y, stride_}, rows, inputs_,
                       static_cast<int>(stride_ / WIDTH<Real>), false);
    }

    int64_t inputs_, stride_;
    Buffer<Real> by_input_;
};
