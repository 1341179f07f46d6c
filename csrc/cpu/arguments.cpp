#include "arguments.h"

#include <algorithm>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>

namespace fastclip::cpu {
namespace {

// Of sizes and offsets: no index and no product of two sizes overflows.
constexpr int64_t kLargest = int64_t{1} << 30;

// Storages can be freed below their tensors, as FSDP does with parameters.
bool has_memory(const at::Tensor& of) {
  int64_t last = of.storage_offset();
  for (int64_t d = 0; d < of.dim(); ++d) last += (of.size(d) - 1) * of.stride(d);
  return of.numel() == 0 ||
         static_cast<size_t>(last + 1) * of.element_size() <= of.storage().nbytes();
}

bool is_dense(const at::Tensor& of) {
  return of.layout() == at::kStrided && of.is_cpu() && has_memory(of);
}

bool is_size(int64_t size) { return 1 <= size && size <= kLargest; }

std::string_view name_of(at::ScalarType dtype) { return c10::getDtypeNames(dtype).first; }

std::string described(const at::Tensor& of) {
  std::ostringstream text;
  text << name_of(of.scalar_type()) << ' ' << of.sizes() << " on " << of.device();
  if (of.layout() != at::kStrided) {
    text << " of the layout " << of.layout();
  } else if (of.is_cpu() && !has_memory(of)) {
    text << " without memory";
  } else if (!of.is_contiguous()) {
    text << ", not contiguous";
  }
  return text.str();
}

}  // namespace

Arguments::Arguments(const char* op, const Rectangle& rectangle) : op_(op) {
  const at::Tensor &rows = rectangle.rows, &cols = rectangle.cols;
  features("row_features", rows);
  features("col_features", cols);
  TORCH_CHECK_VALUE(cols.scalar_type() == rows.scalar_type() && cols.size(1) == rows.size(1), op_,
                    ": col_features must have the dtype and the D of row_features, ",
                    name_of(rows.scalar_type()), " and ", rows.size(1), ", got ", described(cols));
  M_ = rectangle.M();
  N_ = rectangle.N();
  features_dtype_ = rows.scalar_type();
  dtype_ = rectangle.is_double() ? at::kDouble : at::kFloat;
  scalar("logit_scale", rectangle.logit_scale);
  pairs(rectangle.positives);
  interval(rectangle.excluded);
}

void Arguments::features(const char* name, const at::Tensor& value) const {
  const at::ScalarType dtype = value.scalar_type();
  const bool is_floating =
      dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf || dtype == at::kDouble;
  TORCH_CHECK_VALUE(is_dense(value) && value.dim() == 2 && is_floating, op_, ": ", name,
                    " must be dense float32, bfloat16, float16 or float64 [M, D] on cpu, got ",
                    described(value));
  TORCH_CHECK_VALUE(is_size(value.size(0)) && is_size(value.size(1)), op_, ": ", name,
                    " must have sizes from 1 to 2^30, got ", described(value));
}

void Arguments::values(const char* name, const at::Tensor& value, at::IntArrayRef sizes,
                       at::ScalarType dtype) const {
  TORCH_CHECK_VALUE(is_dense(value) && value.scalar_type() == dtype && value.sizes() == sizes &&
                        value.is_contiguous(),
                    op_, ": ", name, " must be contiguous ", name_of(dtype), ' ', sizes,
                    " on cpu, got ", described(value));
}

void Arguments::square() const {
  TORCH_CHECK_VALUE(M_ == N_, op_,
                    ": row_features and col_features must have equally many rows, got ", M_,
                    " and ", N_);
}

void Arguments::pairs(Diagonal positives) const {
  TORCH_CHECK_VALUE(-kLargest <= positives.offset && positives.offset <= kLargest, op_,
                    ": positive_offset must be from -2^30 to 2^30, got ", positives.offset);
}

void Arguments::interval(const Interval& excluded) const {
  const auto& [begin, end] = excluded;
  TORCH_CHECK_VALUE(begin.has_value() == end.has_value(), op_,
                    ": excluded_begin and excluded_end must be given together, got one of them");
  if (!begin) return;
  values("excluded_begin", *begin, {M_}, at::kInt);
  values("excluded_end", *end, {M_}, at::kInt);
}

void Arguments::grad_dtype(at::ScalarType dtype) const {
  TORCH_CHECK_VALUE(dtype == features_dtype_ || dtype == dtype_, op_,
                    ": grad_dtype must be the features' ", name_of(features_dtype_),
                    " or the logits' ", name_of(dtype_), ", got ", name_of(dtype));
}

void Arguments::kept_rows(int64_t rows) const {
  TORCH_CHECK_VALUE(0 <= rows && rows <= M_, op_, ": kept_rows must be from 0 to ", M_, ", got ",
                    rows);
}

void Arguments::dims(at::IntArrayRef dims, int64_t D) const {
  const bool ascending = std::is_sorted(dims.begin(), dims.end(), std::less_equal<int64_t>());
  TORCH_CHECK_VALUE(!dims.empty() && ascending && dims.front() >= 1 && dims.back() == D, op_,
                    ": dims must be ascending, from 1 on, and end with D, ", D, ", got ", dims);
}

void Arguments::kept(const at::Tensor& value, int64_t num_prefixes) const {
  const auto logit_bytes = static_cast<int64_t>(c10::elementSize(dtype_));
  const int64_t row_bytes = num_prefixes * N_ * logit_bytes;
  const auto fits = [&] {
    if (value.size(0) == 0) return true;
    const auto address = reinterpret_cast<uintptr_t>(value.const_data_ptr());
    return value.size(0) <= M_ && value.size(1) == row_bytes && address % logit_bytes == 0;
  };
  TORCH_CHECK_VALUE(is_dense(value) && value.scalar_type() == at::kByte && value.dim() == 2 &&
                        value.is_contiguous() && fits(),
                    op_, ": kept must be contiguous uint8 [at most ", M_, ", ", row_bytes,
                    "] on cpu and aligned to ", logit_bytes, " bytes, got ", described(value));
}

}  // namespace fastclip::cpu
