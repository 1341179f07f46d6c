// Exponential and log1p that a compiler vectorises, for float and double.
//
// Math
//   exp(x)    = 2^n exp(r),  n = round(x / ln 2),  r = x - n ln 2 in [-0.347, 0.347]; Taylor in r.
//   log1p(q)  = 2 atanh(z),  z = q / (2 + q) in [0, 1/3];  atanh z = z + z^3/3 + z^5/5 + ...
//
// Numerics
//   Truncation is below half an ulp (exp: r^8/8!, r^14/14!; log1p: z^18/19, z^36/37). ln 2 is
//   subtracted in two parts, the first with trailing zeros, so that n ln 2 is exact. nan passes.
//
// Speed must not depend on the data: results below the smallest normal number are flushed to zero,
// because multiplying subnormals runs on microcode on many CPUs.
#pragma once

#include <bit>
#include <cstdint>

// One source, several instruction sets: the loader picks the clone for the CPU it runs on. The
// annotated functions call only functions that inline into them.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__)
#define FASTCLIP_MULTIVERSION \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FASTCLIP_MULTIVERSION
#endif
#define FASTCLIP_INLINE inline __attribute__((always_inline))

namespace fastclip::cpu {

template <typename T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  using Bits = uint32_t;
  static constexpr int kMantissaBits = 23;
  static constexpr Bits kExponentOfOne = 127;
  static constexpr float kRound = 12582912.0f;     // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float kSmallest = -87.0f;       // exp is 1.6e-38, still normal
  static constexpr float kLn2High = 0.693359375f;  // 10 significant bits
  static constexpr float kLn2Low = -2.12194440e-4f;
  static constexpr int kDegree = 7;
  static constexpr int kAtanhTerms = 9;
};

template <>
struct ExpConstants<double> {
  using Bits = uint64_t;
  static constexpr int kMantissaBits = 52;
  static constexpr Bits kExponentOfOne = 1023;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kSmallest = -708.0;
  static constexpr double kLn2High = 6.93147180369123816490e-01;  // 33 significant bits
  static constexpr double kLn2Low = 1.90821492927058770002e-10;
  static constexpr int kDegree = 13;
  static constexpr int kAtanhTerms = 18;
};

template <typename T, int K>
FASTCLIP_INLINE constexpr T reciprocal_factorial() {
  double factorial = 1.0;
  for (int k = 2; k <= K; ++k) factorial *= k;
  return static_cast<T>(1.0 / factorial);
}

// sum_{k >= K} r^(k-K) / k!, by Horner's rule.
template <typename T, int K>
FASTCLIP_INLINE T exp_series(T r) {
  if constexpr (K == ExpConstants<T>::kDegree) {
    return reciprocal_factorial<T, K>();
  } else {
    return exp_series<T, K + 1>(r) * r + reciprocal_factorial<T, K>();
  }
}

// sum_{k >= K} z2^(k-K) / (2k + 1).
template <typename T, int K>
FASTCLIP_INLINE T atanh_series(T z2) {
  if constexpr (K + 1 == ExpConstants<T>::kAtanhTerms) {
    return T(1) / T(2 * K + 1);
  } else {
    return atanh_series<T, K + 1>(z2) * z2 + T(1) / T(2 * K + 1);
  }
}

// exp(x) for x <= 0, and for x as far above 0 as rounding takes it; 0 where it would be subnormal.
template <typename T>
FASTCLIP_INLINE T exp_nonpositive(T x) {
  using C = ExpConstants<T>;
  const T clamped = x < C::kSmallest ? C::kSmallest : x;
  const T shifted = clamped * T(1.4426950408889634) + C::kRound;
  const T n = shifted - C::kRound;
  const T r = (clamped - n * C::kLn2High) - n * C::kLn2Low;
  // The low bits of `shifted` are n; moved to the exponent field they are 2^n.
  const auto exponent = std::bit_cast<typename C::Bits>(shifted) + C::kExponentOfOne;
  const T power = std::bit_cast<T>(exponent << C::kMantissaBits);
  const T result = exp_series<T, 0>(r) * power;
  return x < C::kSmallest ? T(0) : result;
}

// log(1 + q) for q in [0, 1].
template <typename T>
FASTCLIP_INLINE T log1p_unit(T q) {
  const T z = q / (T(2) + q);
  return T(2) * z * atanh_series<T, 0>(z * z);
}

}  // namespace fastclip::cpu
