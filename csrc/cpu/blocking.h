// How a rectangle of logits is cut: tiles that live in a core's cache, panels of tiles that bound
// the memory.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace fastclip::cpu {

struct Range {
  int64_t begin;
  int64_t end;
  int64_t size() const { return end - begin; }
};

// [0, total) in equal parts of at most `largest`, so that a ragged batch has no sliver at its end.
class Partition {
 public:
  Partition(int64_t total, int64_t largest)
      : total_(total),
        count_((total + largest - 1) / largest),
        size_((total + count_ - 1) / count_) {
    count_ = (total + size_ - 1) / size_;
  }
  int64_t total() const { return total_; }
  int64_t count() const { return count_; }
  int64_t size() const { return size_; }  // of every part but the last
  Range operator[](int64_t i) const { return {i * size_, std::min((i + 1) * size_, total_)}; }
  Range span(Range parts) const {
    return {parts.begin * size_, std::min(parts.end * size_, total_)};
  }

 private:
  int64_t total_, count_, size_;
};

// Tile: 256 x 512 float logits are 512 KiB, half of a typical L2, and a product with them is long
// enough (67 MFLOP at D = 256) to hide the library's call. A small rectangle is cut finer, so that
// every thread has work. The cut depends on the sizes alone: the forward keeps logits tile by tile
// and the backward must find them.
struct Blocking {
  Partition rows, cols;  // into tiles

  Blocking(int64_t M, int64_t N)
      : rows(M, M * N < kLarge * kLarge ? 128 : 256),
        cols(N, M * N < kSmall * kSmall   ? 128
                : M * N < kLarge * kLarge ? 256
                                          : 512) {}

  static constexpr int64_t kSmall = 512, kLarge = 2048;
};

// Calls task(i, worker) for i in [0, num_tasks), each once, on all threads; tasks are handed out in
// order, so put the long ones first. Who runs what varies; results do not, because tasks write
// disjoint memory. `worker` < max_workers(num_tasks) numbers private buffers.
inline int64_t max_workers(int64_t num_tasks) {
  return std::min<int64_t>(num_tasks, at::get_num_threads());
}

template <typename Task>
void for_each_task(int64_t num_tasks, const Task& task) {
  if (num_tasks == 1) {
    task(0, 0);  // outside a parallel region: the matrix library may use every thread itself
    return;
  }
  std::atomic<int64_t> next{0};
  at::parallel_for(0, max_workers(num_tasks), 1, [&](int64_t worker, int64_t) {
    for (int64_t i = next++; i < num_tasks; i = next++) task(i, worker);
  });
}

}  // namespace fastclip::cpu
