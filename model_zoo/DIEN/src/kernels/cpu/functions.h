// sigmoid, tanh and softplus of whole vectors: NaN stays NaN, large arguments saturate.
#pragma once

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "vector.h"

template <class Real>
struct Exponential;  // how e^x = 2^n e^r, |r| <= log(2) / 2, and log(1 + e^x) are computed

template <>
struct Exponential<float> {
    static constexpr int DEGREE = 6, MANTISSA = 23, TERMS = 8;
    static constexpr float LARGEST = 87;
};

template <>
struct Exponential<double> {
    static constexpr int DEGREE = 13, MANTISSA = 52, TERMS = 17;
    static constexpr double LARGEST = 708;
};

template <class Real>
constexpr Real inverse_factorial(int k) {
    return k ? inverse_factorial<Real>(k - 1) / k : 1;
}

template <class Real>
inline Vector<Real> clamp(Vector<Real> x, Real largest) {
#ifdef __AVX512F__
    if constexpr (std::is_same_v<Real, float>) {  // one instruction each, which the compiler does not find
        const __m512 not_less = _mm512_max_ps(_mm512_set1_ps(-largest), (__m512)x);
        return (Vector<Real>)_mm512_min_ps(_mm512_set1_ps(largest), not_less);
    }
#endif
    x = x < -largest ? all<Real>(-largest) : x;
    return x > largest ? all<Real>(largest) : x;
}

// e^x - c for c = 0 or 1; x is clamped to where 2^n is a normal number.
template <class Real>
inline Vector<Real> exp_minus(Vector<Real> x, Real c) {
    using E = Exponential<Real>;
    constexpr Real ROUND = Real(3) * (int64_t(1) << (E::MANTISSA - 1));  // x + ROUND has no digits behind the point
    x = clamp<Real>(x, E::LARGEST);
    const Vector<Real> rounded = x * Real(1.44269504088896340736) + ROUND;
    const Vector<Real> n = rounded - ROUND;
    const Vector<Real> r = x - n * Real(0.69314718055994530942);
    Vector<Real> e_r_minus_1 = all<Real>(inverse_factorial<Real>(E::DEGREE));
    UNROLLED
    for (int k = E::DEGREE - 1; k > 0; --k) e_r_minus_1 = e_r_minus_1 * r + inverse_factorial<Real>(k);
    e_r_minus_1 *= r;
    // n stands in the lowest bits of the rounded number; it is added to the exponent of 1.
    const Vector<Real> power = (Vector<Real>)(((Integers<Real>)rounded << E::MANTISSA) + (Integers<Real>)all<Real>(1));
    return e_r_minus_1 * power + (power - c);
}

template <class Real>
inline Vector<Real> reciprocal(Vector<Real> x) {
#ifdef __AVX512F__
    if constexpr (std::is_same_v<Real, float>) {  // a division of 16 lanes takes as long as 16 products
        const Vector<Real> y = (Vector<Real>)_mm512_rcp14_ps((__m512)x);
        return y * (2.0f - x * y);
    }
#endif
    return Real(1) / x;
}

template <class Real>
inline Vector<Real> sigmoid(Vector<Real> x) {
    return reciprocal<Real>(Real(1) + exp_minus<Real>(-x, 0));
}

template <class Real>
inline Vector<Real> tanh(Vector<Real> x) {
    const Vector<Real> e = exp_minus<Real>(x + x, 1);  // exact to the last digits where x is close to 0, too
    return e * reciprocal<Real>(e + Real(2));
}

// log(1 + y) = 2 artanh(y / (2 + y)), a series that converges fast for 0 <= y <= 1.
template <class Real>
inline Vector<Real> log_1_plus(Vector<Real> y) {
    const Vector<Real> t = y / (y + Real(2)), square = t * t;
    Vector<Real> sum = {};
    for (int k = Exponential<Real>::TERMS - 1; k >= 0; --k) sum = sum * square + Real(2) / (2 * k + 1);
    return sum * t;
}

template <class Real>
inline Vector<Real> softplus(Vector<Real> x) {
    return (x > Real(0) ? x : Vector<Real>{}) + log_1_plus<Real>(exp_minus<Real>(x > Real(0) ? -x : x, 0));
}
