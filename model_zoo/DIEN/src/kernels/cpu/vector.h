// Vectors of numbers, as wide as the machine's registers, in the notation that GCC and Clang share.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32, REGISTERS = 16;
#elif defined(__aarch64__) || defined(__powerpc64__)
constexpr int VECTOR_BYTES = 16, REGISTERS = 32;
#else
constexpr int VECTOR_BYTES = 16, REGISTERS = 16;
#endif

// Arrays of vectors stay in registers only where loops over them are unrolled.
#ifdef __clang__
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

template <class Real>
struct VectorOf {
    using Integer = std::conditional_t<sizeof(Real) == 4, int32_t, int64_t>;
    typedef Real Reals __attribute__((vector_size(VECTOR_BYTES)));
    typedef Integer Integers __attribute__((vector_size(VECTOR_BYTES)));
};

template <class Real>
using Vector = typename VectorOf<Real>::Reals;

// Whole numbers of the same width; also what a comparison yields: all bits set where it holds.
template <class Real>
using Integers = typename VectorOf<Real>::Integers;

template <class Real>
constexpr int WIDTH = VECTOR_BYTES / sizeof(Real);

constexpr int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

template <class Real>
inline Vector<Real> load(const Real* from) {
    Vector<Real> vector;
    __builtin_memcpy(&vector, from, sizeof vector);
    return vector;
}

template <class Real>
inline void store(Real* to, Vector<Real> vector) {
    __builtin_memcpy(to, &vector, sizeof vector);
}

template <class Real>
inline Vector<Real> all(Real number) {
    return Vector<Real>{} + number;
}
