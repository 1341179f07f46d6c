// What the kernels ask of their arguments, before a launch: called by their names they get
// anything, and a kernel that reads beyond a tensor ends every other use of its device. `stream`
// alone is taken as it comes.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <ostream>
#include <sstream>
#include <stdexcept>

#include "features.h"
#include "logit_gradients.h"
#include "logit_matrix.h"
#include "negative_sums.h"
#include "scalars.h"

namespace fastclip::cuda {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Of sizes and offsets: kernels add two of them in 32 bits.
constexpr int64_t LARGEST = int64_t{1} << 30;
constexpr int64_t ROW_MULTIPLE = 256, DIM_MULTIPLE = 64, KEPT_MULTIPLE = 128;
constexpr int64_t VECTOR_BYTES = 16;  // that kernels load and store at once

constexpr int64_t tiles(int64_t size, int64_t of_tile) { return (size + of_tile - 1) / of_tile; }

// Every check raises a RuntimeError that names the operator and the argument.
class Arguments {
 public:
  // All tensors have to be on the device of `like`.
  Arguments(const char* op, const Tensor& like)
      : op_(op), is_cuda_(like.is_cuda()), device_(like.get_device_index()) {}

  template <typename... Words>
  void require(bool condition, const Words&... words) const {
    if (condition) return;
    std::ostringstream text;
    text << "fastclip_cuda::" << op_ << ": ";
    (put(text, words), ...);
    throw std::runtime_error(text.str());
  }

  float* floats(const char* name, const Tensor& of, int64_t count) const {
    require(is_contiguous(of, ScalarType::Float) && of.numel() == count, name,
            " must be a contiguous float32 tensor of ", count, " elements on the same device, got ",
            of);
    return static_cast<float*>(of.data_ptr());
  }

  float* floats(const char* name, const OptionalTensor& of, int64_t count) const {
    return of.has_value() ? floats(name, *of, count) : nullptr;
  }

  float* scalars(const Tensor& of) const { return floats("scalars", of, NUM_SCALARS); }

  int32_t number(const char* name, int64_t value, int64_t least, int64_t most) const {
    require(least <= value && value <= most, name, " must be from ", least, " to ", most, ", got ",
            value);
    return static_cast<int32_t>(value);
  }

  LogitMatrix matrix(int64_t M, int64_t N, int64_t positive_offset) const {
    return {number("M", M, 1, LARGEST), number("N", N, 1, LARGEST),
            number("positive_offset", positive_offset, -LARGEST, LARGEST)};
  }

  LogitMatrix matrix(int64_t M, int64_t N, int64_t positive_offset,
                     const OptionalTensor& excluded_begin,
                     const OptionalTensor& excluded_end) const {
    LogitMatrix found = matrix(M, N, positive_offset);
    found.excluded = excluded(excluded_begin, excluded_end, found.M);
    return found;
  }

  // An interval to each of `count` rows or columns, or none at all.
  Excluded excluded(const OptionalTensor& begin, const OptionalTensor& end, int64_t count) const {
    require(begin.has_value() == end.has_value(),
            "excluded_begin and excluded_end must be given together, got one of them");
    if (!begin.has_value()) return {};
    return {int32s("excluded_begin", *begin, count), int32s("excluded_end", *end, count)};
  }

  Features features(const Tensor& of) const {
    require(is_here(of) && of.dim() == 2 && of.numel() > 0 && of.size(0) <= LARGEST &&
                of.size(1) <= LARGEST,
            "features must be [M, D] with sizes from 1 to 2^30 on the same device, got ", of);
    return {of.data_ptr(), dtype("features", of), size(of, 0),
            size(of, 1),   of.stride(0),          of.stride(1)};
  }

  Dtype dtype(const char* name, const Tensor& of) const {
    const ScalarType type = of.scalar_type();
    require(type == ScalarType::Float || type == ScalarType::Half || type == ScalarType::BFloat16,
            name, " must be float32, float16 or bfloat16, got ", of);
    return type == ScalarType::Float  ? Dtype::FLOAT32
           : type == ScalarType::Half ? Dtype::FLOAT16
                                      : Dtype::BFLOAT16;
  }

  // (1 or 2 planes, rows in whole tiles, padded D), with at least `num_rows` rows.
  Operand operand(const char* name, const Tensor& of, int64_t num_rows) const {
    require_planes(name, of, DIM_MULTIPLE);
    require(0 < num_rows && num_rows <= of.size(1), name, " must have at least ", num_rows,
            " rows, more than none, got ", of);
    return {of.data_ptr(), size(of, 0), size(of, 1), size(of, 2), static_cast<int32_t>(num_rows)};
  }

  // Operands that are multiplied with each other.
  void match(const Operand& rows, const Operand& cols) const {
    require(rows.planes == cols.planes && rows.dim == cols.dim,
            "rows and cols must have equally many planes and columns, got ", rows.planes, " and ",
            cols.planes, ", ", rows.dim, " and ", cols.dim);
  }

  // A part of the matrix that is written to `of`, in whole tiles.
  GradientBlock block(const Tensor& of, int64_t first_row, int64_t first_col,
                      const LogitMatrix& matrix) const {
    require_planes("block", of, ROW_MULTIPLE);
    GradientBlock found = region(of.size(1), of.size(2), first_row, first_col, matrix);
    found.values = of.data_ptr();
    found.planes = size(of, 0);
    return found;
  }

  // One that is not written.
  GradientBlock region(int64_t num_rows, int64_t num_cols, int64_t first_row, int64_t first_col,
                       const LogitMatrix& matrix) const {
    require(is_padded(num_rows, ROW_MULTIPLE) && is_padded(num_cols, ROW_MULTIPLE),
            "num_rows and num_cols must be multiples of ", ROW_MULTIPLE, ", got ", num_rows,
            " and ", num_cols);
    return {nullptr,
            1,
            static_cast<int32_t>(num_rows),
            static_cast<int32_t>(num_cols),
            number("first_row", first_row, 0, matrix.M - 1),
            number("first_col", first_col, 0, matrix.N - 1)};
  }

  void covers(const Operand& cols, const GradientBlock& block) const {
    const int64_t end = int64_t{block.first_col} + block.num_cols;
    require(end <= cols.plane_rows, "cols must reach to the end of the block, row ", end, ", got ",
            cols.plane_rows);
  }

  // Of features; kernels store four elements at once where a row has whole fours.
  bool is_gradient(const Tensor& of, const Features& features) const {
    const int64_t four = 4 * static_cast<int64_t>(of.element_size());
    return is_contiguous(of, of.scalar_type()) && of.dim() == 2 && of.size(0) == features.rows &&
           of.size(1) == features.D && (features.D % 4 != 0 || is_aligned(of, four));
  }

  // (rows, N padded), or empty.
  Kept kept(const Tensor& of, const LogitMatrix& matrix) const {
    if (of.numel() == 0) return Kept::NOTHING;
    const bool is_int16 = of.scalar_type() == ScalarType::Short;
    const int64_t width = tiles(matrix.N, KEPT_MULTIPLE) * KEPT_MULTIPLE;
    require(is_contiguous(of, is_int16 ? ScalarType::Short : ScalarType::Float) && of.dim() == 2 &&
                of.size(0) <= matrix.M && of.size(1) == width && is_aligned(of),
            "kept must be contiguous int16 or float32 [at most ", matrix.M, ", ", width,
            "] on the same device and aligned to 16 bytes, got ", of);
    return is_int16 ? Kept::INT16 : Kept::FLOAT32;
  }

  bool is_contiguous(const Tensor& of, ScalarType type) const {
    return is_here(of) && of.scalar_type() == type && of.is_contiguous();
  }

  static bool is_aligned(const Tensor& of, int64_t bytes = VECTOR_BYTES) {
    return reinterpret_cast<uintptr_t>(of.data_ptr()) % bytes == 0;
  }

  static int32_t size(const Tensor& of, int64_t dim) { return static_cast<int32_t>(of.size(dim)); }

 private:
  template <typename Word>
  static void put(std::ostream& out, const Word& word) {
    out << word;
  }

  static void put(std::ostream& out, const Tensor& given) {
    out << given.scalar_type() << " [";
    for (int64_t d = 0; d < given.dim(); ++d) out << (d > 0 ? ", " : "") << given.size(d);
    out << (given.is_contiguous() ? "]" : "], not contiguous")
        << (given.is_cuda() ? " on a GPU" : " on the CPU");
  }

  const int32_t* int32s(const char* name, const Tensor& of, int64_t count) const {
    require(is_contiguous(of, ScalarType::Int) && of.numel() == count, name,
            " must be a contiguous int32 tensor of ", count, " elements on the same device, got ",
            of);
    return static_cast<const int32_t*>(of.data_ptr());
  }

  bool is_here(const Tensor& of) const {
    return of.is_cuda() == is_cuda_ && of.get_device_index() == device_;
  }

  void require_planes(const char* name, const Tensor& of, int64_t cols_multiple) const {
    require(is_contiguous(of, ScalarType::Half) && of.dim() == 3 && is_aligned(of) &&
                (of.size(0) == 1 || of.size(0) == 2) && is_padded(of.size(1), ROW_MULTIPLE) &&
                is_padded(of.size(2), cols_multiple),
            name, " must be contiguous float16 [1 or 2, a multiple of ", ROW_MULTIPLE,
            ", a multiple of ", cols_multiple, "] on the same device and aligned to 16 bytes, got ",
            of);
  }

  static bool is_padded(int64_t size, int64_t multiple) {
    return 0 < size && size <= LARGEST && size % multiple == 0;
  }

  const char* op_;
  bool is_cuda_;
  int32_t device_;
};

}  // namespace fastclip::cuda
