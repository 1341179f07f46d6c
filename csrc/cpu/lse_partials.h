// (max, sum) of exponentials of rows and columns, as tiles leave them, merged in a fixed order:
//   m = max(max_a, max_b);  sum = sum_a e^(max_a - m) + sum_b e^(max_b - m)
//
// Source    Milakov & Gimelshein 2018, arXiv:1805.02867
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "blocking.h"
#include "scratch.h"

namespace fastclip::cpu {

template <typename T>
inline constexpr T kEmpty = -std::numeric_limits<T>::infinity();

// (max, sum) of a row or column, and another that saw other columns or rows of it.
template <typename T>
void merge(T max, T sum, T& total_max, T& total_sum) {
  if (max == kEmpty<T> && !std::isnan(sum)) return;
  if (max > total_max) {
    total_sum = total_sum * std::exp(total_max - max) + sum;
    total_max = max;
  } else {
    total_sum += sum * std::exp(max - total_max);
  }
}

// What the tiles of one panel found for `count` rows (or columns): a plane for each tile across.
template <typename T>
class Partials {
 public:
  Partials(int64_t num_planes, int64_t count)
      : count_(count),
        max_(empty({num_planes, count}, c10::CppTypeToScalarType<T>::value)),
        sum_(empty({num_planes, count}, c10::CppTypeToScalarType<T>::value)) {}

  T* max(int64_t plane, int64_t i) { return max_.data_ptr<T>() + plane * count_ + i; }
  T* sum(int64_t plane, int64_t i) { return sum_.data_ptr<T>() + plane * count_ + i; }

  // Merges `num_planes` planes, in order, into the `count` totals that begin at the pointers.
  void merge_into(T* total_max, T* total_sum, int64_t num_planes, int64_t count) {
    const Partition parts(count, 1024);
    for_each_task(parts.count(), [&](int64_t task, int64_t) {
      for (int64_t i = parts[task].begin; i < parts[task].end; ++i) {
        for (int64_t plane = 0; plane < num_planes; ++plane) {
          merge(*max(plane, i), *sum(plane, i), total_max[i], total_sum[i]);
        }
      }
    });
  }

 private:
  int64_t count_;
  at::Tensor max_, sum_;  // (num_planes, count)
};

}  // namespace fastclip::cpu
