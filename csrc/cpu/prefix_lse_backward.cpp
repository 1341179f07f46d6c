// prefix_lse, backward: the gradients of the logits of every prefix, and one product per block of
// columns and side.
//
// Math
//   p_k    gradient of the logits S_k of prefix k (lse_epilogue.h), without the power of two u_k
//   H_k  = p_k + (u_k+1 / u_k) (r_k c_k^T) H_k+1     (r, c, and blocks x_k, y_k: prefix_logits.h)
//   s u_k H_k y_k  is the gradient of the rows' block k, as if norms were constants. Those take off
//   x times the sum of p S over the row, for every prefix that the block belongs to (features.h).
//   d s  = sum over k of u_k <H_k y_k, x_k>, the sum of p S / s.
//   u_k is the largest weight of prefixes k and later: the gradient of a block keeps its digits
//   where the shorter prefixes' losses are larger by many powers of ten.
//
// Tiling    gradient_products.h: a panel is 2 x 4 tiles of H_k for each k; a tile is the products of
//           prefix_logits.h, unless its logits were kept, and prefix_epilogue.h from the last prefix
//           to the first, in the place of the logits
// Cost      6 M N D FLOPs (4 M N D where the logits were kept), two exponentials per logit of every
//           prefix. Memory: the panels of H, 4 MiB per prefix in float; K (M + N) sums in double
// Limits    first derivatives only; gradients and statistics contiguous and in T
#include <algorithm>
#include <vector>

#include "arguments.h"
#include "gradient_products.h"
#include "logit_gradients.h"
#include "prefix_epilogue.h"
#include "prefix_logits.h"
#include "prefix_lse.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kPanelCols = 4;

// The weights of all prefixes, each in its unit; 0 is the unit where those of later ones are 0 too.
template <typename T>
struct PrefixWeights {
  std::vector<Weights<T>> of;
  std::vector<double> units;

  PrefixWeights(const at::Tensor& grad_positive, const at::Tensor& grad_total)
      : units(grad_positive.size(0)) {
    const auto K = static_cast<int64_t>(units.size());
    for (int64_t k = 0; k < K; ++k) of.push_back(Weights<T>({grad_positive[k], grad_total[k]}));
    for (int64_t k = K - 1; k >= 0; --k) {
      const double own = of[k].are_zero() ? 0.0 : of[k].scale();
      units[k] = k + 1 < K ? std::max(own, units[k + 1]) : own;
      if (own > 0.0) of[k].divide_by(units[k] / own);
    }
  }

  // The unit of the next prefix in that of prefix k.
  T next(int64_t k) const { return units[k] > 0.0 ? static_cast<T>(units[k + 1] / units[k]) : 0; }
};

// Sums over rows or columns, prefix by prefix: those of a panel's tiles, then all of them.
template <typename T>
class PrefixDots {
 public:
  PrefixDots(int64_t num_prefixes, int64_t num_planes, int64_t panel_size, int64_t size)
      : planes_(empty({num_planes, num_prefixes, panel_size}, c10::CppTypeToScalarType<T>::value)),
        totals_(at::zeros({num_prefixes, size}, at::kDouble)) {}

  // What a tile writes: `plane` is its number across, `i` its first row (column) in the panel.
  T* of_tile(int64_t plane, int64_t prefix, int64_t i) {
    return planes_.data_ptr<T>() + (plane * planes_.size(1) + prefix) * planes_.size(2) + i;
  }

  void add(Range span, int64_t num_planes) {
    totals_.narrow(1, span.begin, span.size())
        .add_(
            planes_.narrow(0, 0, num_planes).narrow(2, 0, span.size()).sum(0, false, at::kDouble));
  }

  double operator()(int64_t prefix, int64_t i) const {
    return totals_.const_data_ptr<double>()[prefix * totals_.size(1) + i];
  }

 private:
  at::Tensor planes_;  // (num_planes, num_prefixes, panel_size) of T
  at::Tensor totals_;  // (num_prefixes, size) of double
};

template <typename T>
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
    const Rectangle& rectangle, at::IntArrayRef ends, const at::Tensor& grad_positive,
    const at::Tensor& grad_total, const at::Tensor& positive, const at::Tensor& maximum,
    const at::Tensor& kept, Sides wants) {
  const int64_t M = rectangle.M(), N = rectangle.N();
  const auto K = static_cast<int64_t>(ends.size());
  const double logit_scale = rectangle.logit_scale.item<double>();
  const GradientPanels panels(rectangle, kPanelCols);
  const Partition &row_tiles = panels.blocking.rows, &col_tiles = panels.blocking.cols;
  Features<T> rows(rectangle.rows, true, ends.vec(), panels.max_rows);
  Features<T> cols(rectangle.cols, true, ends.vec(), panels.max_cols);
  // d logit_scale is a by-product of either side: without any, take the rows.
  const auto grad_dtype = rectangle.rows.scalar_type();
  GradientSums<T> row_sums(rows, wants.rows || !wants.cols, M, grad_dtype);
  GradientSums<T> col_sums(cols, wants.cols, panels.max_cols, grad_dtype);
  const PrefixLogits<T> logits(rectangle, rows, cols);
  const KeptPrefixes<T> kept_planes(static_cast<T*>(const_cast<void*>(kept.const_data_ptr())),
                                    kept.size(0), N, K);
  const PrefixWeights<T> weights(grad_positive, grad_total);
  PrefixDots<T> row_dots(K, panels.tile_cols, panels.max_rows, M);
  PrefixDots<T> col_dots(K, panels.tile_rows, panels.max_cols, N);
  const T* const maxima = maximum.const_data_ptr<T>();
  const T* const positives = positive.const_data_ptr<T>();

  const auto write_prefix = [&](const T* of_logits, const GradientTile<T>& gradients, int64_t k) {
    const Tile<T> out = gradients.of(k);
    const int64_t m = out.rows.size(), n = out.cols.size();
    const T* const pair_weight = weights.of[k][0] + out.rows.begin;
    const T* const row_weight = weights.of[k][1];
    const T* const row_max = maxima + k * (M + N);
    T* const row_dot = row_dots.of_tile(out.col_index, k, out.row_index * row_tiles.size());
    T* const col_dot = col_dots.of_tile(out.row_index, k, out.col_index * col_tiles.size());
    NextPrefix<T> next{};
    if (k + 1 < K) {
      next = {gradients.of(k + 1).data, logits.row_ratios().of(k, out.rows.begin),
              logits.col_ratios().of(k, out.cols.begin), weights.next(k)};
    }
    prefix_tile_backward(of_logits, m, n, row_weight + out.rows.begin, row_max + out.rows.begin,
                         row_weight + M + out.cols.begin, row_max + M + out.cols.begin, next,
                         out.data, row_dot, col_dot);
    logits.for_each_pair(out, [&](int64_t i, int64_t j, T& gradient) {
      gradient += pair_weight[i];
      const T dot = pair_weight[i] * positives[k * M + out.rows.begin + i];
      row_dot[i] += dot;
      col_dot[j] += dot;
    });
  };
  double row_scale = 0.0, col_scale = 0.0;
  const auto finish = [&](GradientSums<T>& sums, const Features<T>& features,
                          const PrefixDots<T>& dots, Range span, int64_t first) {
    return sums.finish(span, first, [&](int64_t i, const T* row, T* sum) {
      double total = 0.0;
      for (int64_t k = 0; k < K; ++k) {
        const Range block = features.block(k);
        const double unit = weights.units[k];
        total += unit * scale_and_dot(sum + block.begin, row + block.begin, block.size(),
                                      static_cast<T>(logit_scale * unit));
      }
      features.normalization_backward(
          i, row, [&](int64_t k) { return weights.units[k] * dots(k, i); }, sum);
      return total;
    });
  };

  sum_products<T>(
      rows, cols, panels, row_sums, col_sums,
      [&](const Block<const T>& tile_rows, const Block<const T>& tile_cols,
          const GradientTile<T>& gradients) {
        const Tile<T>& tile = gradients.first;
        const T* of_logits = tile.data;
        int64_t stride = gradients.stride;
        if (kept_planes.holds(tile)) {
          of_logits = kept_planes.of(tile);
          stride = tile.rows.size() * tile.cols.size();
        } else {
          logits.compute(tile_rows, tile_cols, tile, stride,
                         [](int64_t, const Tile<T>&, const T*) {});
        }
        for (int64_t k = K - 1; k >= 0; --k) write_prefix(of_logits + k * stride, gradients, k);
      },
      [&](Range panel_rows, Range panel_cols) {
        row_dots.add(row_tiles.span(panel_rows), panel_cols.size());
        col_dots.add(col_tiles.span(panel_cols), panel_rows.size());
      },
      [&](Range span) { col_scale += finish(col_sums, cols, col_dots, span, span.begin); });
  for_each_row_panel(panels,
                     [&](Range span) { row_scale += finish(row_sums, rows, row_dots, span, 0); });
  return {wants.rows ? row_sums.result() : empty({0}, rectangle.rows.options()), col_sums.result(),
          scalar<T>(row_sums.needed() ? row_scale : col_scale, rectangle.logit_scale.options())};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> prefix_lse_backward(
    const Rectangle& rectangle, at::IntArrayRef ends, const at::Tensor& grad_positive,
    const at::Tensor& grad_total, const at::Tensor& positive, const at::Tensor& maximum,
    const at::Tensor& kept, Sides wants) {
  const Arguments of("prefix_lse_backward", rectangle);
  const auto K = static_cast<int64_t>(ends.size());
  of.dims(ends, rectangle.rows.size(1));
  of.matrix("grad_positive", grad_positive, K, of.M());
  of.matrix("grad_total", grad_total, K, of.M() + of.N());
  of.matrix("positive", positive, K, of.M());
  of.matrix("maximum", maximum, K, of.M() + of.N());
  of.kept(kept, K);
  const auto run = rectangle.is_double() ? backward<double> : backward<float>;
  return run(rectangle, ends, grad_positive, grad_total, positive, maximum, kept, wants);
}

}  // namespace fastclip::cpu
