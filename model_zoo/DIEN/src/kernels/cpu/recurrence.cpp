// GRU, AGRU, AUGRU over rows of any lengths, forward and backward, for gru.py. A block of rows lies in the lanes of
// vectors, so that no size of the state leaves lanes empty, and a thread takes it through all its steps.
#include <numeric>

#include "recurrence_backward.h"
#include "recurrence_forward.h"
#include "status.h"

extern "C" {

int check_offsets(int64_t rows, int64_t steps, const int64_t* offsets) {
    const bool rise = offsets[0] == 0 && offsets[rows] == steps && std::is_sorted(offsets, offsets + rows + 1);
    return rise ? OK : BAD_OFFSETS;
}

// Sorts rows by length and divides them into blocks of LANES, or of half as many where the first, whose rows are the
// longest, would keep one of the threads longer than its share of all blocks.
//     offsets: (rows + 1,), from 0 to steps. order: (rows,). first_step: as of the smaller blocks, (blocks + 1,), the last
//     one their steps in all; a block has as many as its longest row.
int recurrence_plan(int64_t rows, int64_t steps, const int64_t* offsets, int64_t threads, int64_t* order,
                    int64_t* first_step, int64_t* rows_per_block) {
    if (check_offsets(rows, steps, offsets) != OK) return BAD_OFFSETS;
    const auto length = [&](int64_t row) { return offsets[row + 1] - offsets[row]; };
    return reported([&] {
        std::iota(order, order + rows, 0);
        std::stable_sort(order, order + rows, [&](int64_t a, int64_t b) { return length(a) > length(b); });
        const auto divide = [&](int64_t size) {
            int64_t* step = first_step;
            *step = 0;
            for (int64_t row = 0; row < rows; row += size, ++step) step[1] = step[0] + length(order[row]);
            *rows_per_block = size;
            return *step;
        };
        const int64_t all = divide(LANES);
        if (rows > 0 && length(*order) * threads > all) divide(LANES / 2);
    });
}

#define FOR_TYPE(Real)                                                                                               \
    int recurrence_forward_##Real(const Problem<Real>* problem, Real* states, Real* final, Real* kept) {            \
        return reported([&] { forward(*problem, states, final, kept); });                                           \
    }                                                                                                                \
    int recurrence_backward_##Real(const Problem<Real>* problem, const Outcome<Real>* outcome,                       \
                                   const Gradients<Real>* gradients) {                                               \
        return reported([&] { backward(*problem, *outcome, *gradients); });                                         \
    }

FOR_TYPE(float)
FOR_TYPE(double)
}
