// A feature matrix as the kernels read it: rows of T, normalised and converted where asked.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "blocking.h"
#include "feature_rows.h"
#include "matmul.h"
#include "scratch.h"

namespace fastclip::cpu {

// Rows in the compute type are read in place; others are converted a panel at a time into a buffer
// of `largest_panel` rows: a converted copy of the whole would be as large as a gradient.
//
// Normalisation: u = x / max(|x|, 1e-12), norms in double because squares overflow in float. Of
// prefixes, which end at `ends`: a block of columns, from the end of one prefix to that of the next,
// is divided by the norm of the prefix that ends with it. The whole row is the only prefix else.
template <typename T>
class Features {
 public:
  static constexpr double kEps = 1e-12;  // of torch.nn.functional.normalize

  Features(at::Tensor features, bool normalize, int64_t largest_panel)
      : Features(features, normalize, {features.size(1)}, largest_panel) {}

  // `ends`: ascending, the last one is the number of columns.
  Features(at::Tensor features, bool normalize, std::vector<int64_t> ends, int64_t largest_panel)
      : features_(std::move(features)), normalize_(normalize), ends_(std::move(ends)) {
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
  int64_t num_blocks() const { return static_cast<int64_t>(ends_.size()); }
  Range block(int64_t b) const { return {b == 0 ? 0 : ends_[b - 1], ends_[b]}; }
  const at::Tensor& tensor() const { return features_; }

  // max(|prefix|, 1e-12) of the prefix that ends with block b, of normalised features.
  double norm(int64_t row, int64_t b) const {
    return norms_.const_data_ptr<double>()[row * num_blocks() + b];
  }

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
          for (int64_t b = 0; b < num_blocks(); ++b) {
            scale_row(rows + i * dim() + block(b).begin, block(b).size(),
                      1.0 / norm(panel.begin + i, b));
          }
        }
      });
    }
    return {rows, panel.size(), dim(), dim()};
  }

  // Replaces d u by d x = (d u - u <d u, u>) / |x|; without normalisation there is nothing to do.
  // radial(b) is <d u, u> of the unit vector of the prefix that ends with block b. A block belongs
  // to that prefix and to all that follow, whose unit vectors have it smaller by a ratio of norms.
  template <typename Radial>
  void normalization_backward(int64_t row, const T* unit, const Radial& radial, T* grad) const {
    if (!normalize_) return;
    const auto counted = [&](int64_t b) { return norm(row, b) > kEps ? radial(b) : 0.0; };
    const int64_t last = num_blocks() - 1;
    double along = counted(last);
    for (int64_t b = last; b >= 0; --b) {
      if (b < last) {
        const double ratio = norm(row, b) / norm(row, b + 1);
        along = counted(b) + ratio * ratio * along;
      }
      const Range columns = block(b);
      project_row(grad + columns.begin, unit + columns.begin, columns.size(), along,
                  1.0 / norm(row, b));
    }
  }

 private:
  T* convert(Range panel) {
    buffer_.narrow(0, 0, panel.size()).copy_(features_.narrow(0, panel.begin, panel.size()));
    return buffer_.template data_ptr<T>();
  }

  void compute_norms() {
    norms_ = empty({size(), num_blocks()}, features_.options().dtype(at::kDouble));
    double* norms = norms_.data_ptr<double>();
    const Partition panels(size(), largest_panel_);
    for (int64_t p = 0; p < panels.count(); ++p) {
      const Range panel = panels[p];
      const T* rows = convert(panel);
      for_each_task(Partition(panel.size(), 64).count(), [&](int64_t task, int64_t) {
        const Range part = Partition(panel.size(), 64)[task];
        for (int64_t i = part.begin; i < part.end; ++i) {
          double squares = 0.0;
          for (int64_t b = 0; b < num_blocks(); ++b) {
            squares += squared_norm(rows + i * dim() + block(b).begin, block(b).size());
            // Not std::max: a nan must pass.
            const double length = std::sqrt(squares);
            norms[(panel.begin + i) * num_blocks() + b] = length < kEps ? kEps : length;
          }
        }
      });
    }
  }

  at::Tensor features_;  // (size, dim), any floating dtype and strides
  bool normalize_;
  std::vector<int64_t> ends_;  // of the blocks of columns
  bool in_place_;
  int64_t largest_panel_ = 0;
  at::Tensor buffer_;  // (largest_panel, dim) of T
  at::Tensor norms_;   // (size, blocks) of double
};

}  // namespace fastclip::cpu
