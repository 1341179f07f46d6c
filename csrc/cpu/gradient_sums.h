// The products of one side of a backward, summed, and what makes gradients of the sums.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <numeric>

#include "blocking.h"
#include "features.h"
#include "matmul.h"
#include "scratch.h"

namespace fastclip::cpu {

// Sums of products for one side. Where their gradient is in T they are made in the result itself.
template <typename T>
class GradientSums {
 public:
  // `count` rows are accumulated at a time: all of them, or a panel's.
  GradientSums(Features<T>& features, bool needed, int64_t count, at::ScalarType grad_dtype)
      : features_(features), needed_(needed) {
    const auto dtype = c10::CppTypeToScalarType<T>::value;
    const auto& like = features.tensor();
    const auto options = like.options();
    result_ = empty(needed ? like.sizes() : at::IntArrayRef{0}, options.dtype(grad_dtype));
    in_place_ = needed && grad_dtype == dtype;
    if (!in_place_) sums_ = empty({needed ? count : 0, features.dim()}, options.dtype(dtype));
  }

  bool needed() const { return needed_; }
  const at::Tensor& result() const { return result_; }

  // Rows `rows` of the sums, where the buffer, if there is one, begins at row `first`.
  Block<T> rows(Range rows, int64_t first) {
    const int64_t dim = features_.dim();
    T* const base = in_place_ ? result_.template data_ptr<T>() + rows.begin * dim
                              : sums_.template data_ptr<T>() + (rows.begin - first) * dim;
    return {base, rows.size(), dim, dim};
  }

  // Calls finish_row(i, row, sum) -> double for every row of `panel`: it turns the finished sum into
  // the gradient. Returns what it returned, added up.
  template <typename FinishRow>
  double finish(Range panel, int64_t first, const FinishRow& finish_row) {
    if (!needed_) return 0.0;
    const Block<const T> prepared = features_.load(panel);
    const Block<T> sums = rows(panel, first);
    const Partition parts(panel.size(), 64);
    const at::Tensor results = empty({parts.count()}, at::kDouble);
    double* const part_results = results.data_ptr<double>();
    for_each_task(parts.count(), [&](int64_t task, int64_t) {
      double total = 0.0;
      for (int64_t i = parts[task].begin; i < parts[task].end; ++i) {
        total += finish_row(panel.begin + i, prepared.data + i * prepared.row_stride,
                            sums.data + i * sums.row_stride);
      }
      part_results[task] = total;
    });
    if (!in_place_) {
      result_.narrow(0, panel.begin, panel.size())
          .copy_(sums_.narrow(0, panel.begin - first, panel.size()));
    }
    return std::accumulate(part_results, part_results + parts.count(), 0.0);
  }

 private:
  Features<T>& features_;
  bool needed_, in_place_;
  at::Tensor result_;  // (size, D) of grad_dtype
  at::Tensor sums_;    // (count, D) of T
};

}  // namespace fastclip::cpu
