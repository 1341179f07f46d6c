// A feature matrix as the kernels read it: rows of T, normalised and converted where asked.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "blocking.h"
#include "feature_rows.h"
#include "matmul.h"
#include "scratch.h"

namespace fastclip::cpu {

// Rows in the compute type are read in place; others are converted a panel at a time into a buffer
// of `largest_panel` rows: a converted copy of the whole would be as large as a gradient.
//
// Normalisation: u = x / max(|x|, 1e-12), norms in double because squares overflow in float.
template <typename T>
class Features {
 public:
  static constexpr double kEps = 1e-12;  // of torch.nn.functional.normalize

  Features(at::Tensor features, bool normalize, int64_t largest_panel)
      : features_(std::move(features)), normalize_(normalize) {
    const auto dtype = c10::CppTypeToScalarType<T>::value;
    in_place_ = !normalize && features_.scalar_type() == dtype && features_.stride(1) == 1 &&
                features_.stride(0) >= dim();
    if (!in_place_) {
      largest_panel_ = std::min(largest_panel, size());
      buffer_ = empty({largest_panel_, dim()}, features_.options().dtype(dtype));
    }
    if (normalize_) compute_norms();
  }

  int64_t size() const { return features_.size(0); }
  int64_t dim() const { return features_.size(1); }
  const at::Tensor& tensor() const { return features_; }

  // Rows `panel` for reading; valid until the next call.
  Block<const T> load(Range panel) {
    if (in_place_) {
      const int64_t stride = features_.stride(0);
      return {features_.const_data_ptr<T>() + panel.begin * stride, panel.size(), dim(), stride};
    }
    T* rows = convert(panel);
    if (normalize_) {
      for_each_task(Partition(panel.size(), 64).count(), [&](int64_t task, int64_t) {
        const Range part = Partition(panel.size(), 64)[task];
        for (int64_t i = part.begin; i < part.end; ++i) {
          scale_row(rows + i * dim(), dim(), 1.0 / norm(panel.begin + i));
        }
      });
    }
    return {rows, panel.size(), dim(), dim()};
  }

  // Replaces d u by d x = (d u - u <d u, u>) / |x|; without normalisation there is nothing to do.
  // `radial` is <d u, u>.
  void normalization_backward(int64_t row, const T* unit, double radial, T* grad) const {
    if (!normalize_) return;
    project_row(grad, unit, dim(), norm(row) > kEps ? radial : 0.0, 1.0 / norm(row));
  }

 private:
  double norm(int64_t row) const { return norms_.const_data_ptr<double>()[row]; }

  T* convert(Range panel) {
    buffer_.narrow(0, 0, panel.size()).copy_(features_.narrow(0, panel.begin, panel.size()));
    return buffer_.template data_ptr<T>();
  }

  void compute_norms() {
    norms_ = empty({size()}, features_.options().dtype(at::kDouble));
    double* norms = norms_.data_ptr<double>();
    const Partition panels(size(), largest_panel_);
    for (int64_t p = 0; p < panels.count(); ++p) {
      const Range panel = panels[p];
      const T* rows = convert(panel);
      for_each_task(Partition(panel.size(), 64).count(), [&](int64_t task, int64_t) {
        const Range part = Partition(panel.size(), 64)[task];
        for (int64_t i = part.begin; i < part.end; ++i) {
          // Not std::max: a nan must pass.
          const double length = std::sqrt(squared_norm(rows + i * dim(), dim()));
          norms[panel.begin + i] = length < kEps ? kEps : length;
        }
      });
    }
  }

  at::Tensor features_;  // (size, dim), any floating dtype and strides
  bool normalize_;
  bool in_place_;
  int64_t largest_panel_ = 0;
  at::Tensor buffer_;  // (largest_panel, dim) of T
  at::Tensor norms_;   // (size,) of double
};

}  // namespace fastclip::cpu
