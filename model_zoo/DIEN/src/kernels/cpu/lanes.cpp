// Compiled once for all that change between rows and lanes.
#include "lanes.h"

namespace {

// Of every second group of DISTANCE lanes, those of b go beside those of a (LOW), or those of a beside those of b.
template <class Real, int DISTANCE, bool LOW, int... LANE>
inline Vector<Real> exchange(Vector<Real> a, Vector<Real> b, std::integer_sequence<int, LANE...>) {
    constexpr int W = WIDTH<Real>, SHIFT = LOW ? 0 : DISTANCE;
#ifdef __clang__
    return __builtin_shufflevector(a, b, (LANE & DISTANCE ? W + LANE - DISTANCE + SHIFT : LANE + SHIFT)...);
#else
    return __builtin_shuffle(a, b, Integers<Real>{(LANE & DISTANCE ? W + LANE - DISTANCE + SHIFT : LANE + SHIFT)...});
#endif
}

// Transposes a square of WIDTH vectors in place, by ever smaller squares.
template <class Real, int DISTANCE = WIDTH<Real> / 2>
inline void transpose(Vector<Real>* square) {
    if constexpr (DISTANCE > 0) {
        constexpr auto every_lane = std::make_integer_sequence<int, WIDTH<Real>>();
        UNROLLED
        for (int i = 0; i < WIDTH<Real>; ++i) {
            if (i & DISTANCE) continue;
            const Vector<Real> a = square[i], b = square[i + DISTANCE];
            square[i] = exchange<Real, DISTANCE, true>(a, b, every_lane);
            square[i + DISTANCE] = exchange<Real, DISTANCE, false>(a, b, every_lane);
        }
        transpose<Real, DISTANCE / 2>(square);
    }
}

}  // namespace

template <class Real>
void to_lanes(const Real* const* rows, int64_t size, int vectors, Real* lanes) {
    constexpr int W = WIDTH<Real>;
    if (size < W) {
        for (int lane = 0; lane < vectors * W; ++lane) {
            for (int64_t i = 0; i < size; ++i) lanes[i * LANES + lane] = rows[lane][i];
        }
        return;
    }
    for (int first_lane = 0; first_lane < vectors * W; first_lane += W) {
        for_each_square<Real>(size, [=](int64_t first) {
            Vector<Real> square[W];
            UNROLLED
            for (int i = 0; i < W; ++i) square[i] = load(rows[first_lane + i] + first);
            transpose<Real>(square);
            UNROLLED
            for (int i = 0; i < W; ++i) store<Real>(lanes + (first + i) * LANES + first_lane, square[i]);
        });
    }
}

template <class Real>
void from_lanes(const Real* lanes, int64_t size, int count, Real* const* rows) {
    constexpr int W = WIDTH<Real>;
    if (size < W) {
        for (int lane = 0; lane < count; ++lane) {
            for (int64_t i = 0; i < size; ++i) rows[lane][i] = lanes[i * LANES + lane];
        }
        return;
    }
    for (int first_lane = 0; first_lane < count; first_lane += W) {
        for_each_square<Real>(size, [=](int64_t first) {
            Vector<Real> square[W];
            UNROLLED
            for (int i = 0; i < W; ++i) square[i] = load(lanes + (first + i) * LANES + first_lane);
            transpose<Real>(square);
            UNROLLED
            for (int i = 0; i < W; ++i) {
                if (first_lane + i < count) store<Real>(rows[first_lane + i] + first, square[i]);
            }
        });
    }
}

#define FOR_TYPE(Real)                                                    \
    template void to_lanes(const Real* const*, int64_t, int, Real*);      \
    template void from_lanes(const Real*, int64_t, int, Real* const*);

FOR_TYPE(float)
FOR_TYPE(double)
