// Masks of rows for native_dropout.py.
#include "dropout.h"

#include <vector>

#include "memory.h"
#include "status.h"
#include "threads.h"

namespace {

// masks: (rows, units).
template <class Real>
void dropout_masks(int64_t key, int64_t dropped, int64_t rows, int64_t units, int64_t threads, const int64_t* elements,
                   Real* masks) {
    std::vector<Buffer<Real>> memory;
    for (int64_t i = 0; i < threads; ++i) memory.emplace_back(units * LANES);
    for_each_part((rows + LANES - 1) / LANES, threads, [&](int64_t block) {
        const int64_t first = block * LANES;
        const int count = static_cast<int>(std::min<int64_t>(LANES, rows - first));
        Elements of_lanes = {};
        Real* at[LANES];
        for (int lane = 0; lane < count; ++lane) {
            of_lanes.set(lane, elements[first + lane]);
            at[lane] = masks + (first + lane) * units;
        }
        Real* const lanes = memory[worker()].data();
        draw_masks(key, dropped, of_lanes, units, lanes);
        from_lanes(lanes, units, count, at);
    });
}

}  // namespace

extern "C" {

#define FOR_TYPE(Real)                                                                                        \
    int dropout_masks_##Real(int64_t key, int64_t dropped, int64_t rows, int64_t units, int64_t threads,      \
                             const int64_t* elements, Real* masks) {                                          \
        return reported([&] { dropout_masks(key, dropped, rows, units, threads, elements, masks); });         \
    }

FOR_TYPE(float)
FOR_TYPE(double)
}
