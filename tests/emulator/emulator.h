// CUDA's words for a kernel that runs on the CPU, thread by thread.
//
// Every thread of a block is a fiber; one runs at a time, until it waits for others. What a warp
// does together (shuffles, ldmatrix, mma) happens when its last lane has arrived, with the layouts
// that the PTX ISA gives. Nothing is faster than on a GPU; what can be seen here and not there:
//   - a copy or a product that nobody waited for: they are made at the last moment that is
//     allowed (or at the first, as `Options` say), and shared memory is full of nan before a
//     block begins;
//   - threads that depend on an order: the next to run is drawn at random;
//   - a barrier that not all reach: std::runtime_error instead of a hang;
//   - writing beyond the shared memory that was asked for, or ending before a copy engine has
//     read it: likewise.
// Not emulated: how tensor cores round sums (here in float64, rounded once per instruction), fences
// and memory ordering, registers, and time.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct float2 {
  float x, y;
};
struct uint4 {
  uint32_t x, y, z, w;
};

extern dim3 threadIdx, blockIdx, gridDim;

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

template <typename To, typename From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
inline int __float_as_int(float x) { return bits_as<int>(x); }
inline float __int_as_float(int x) { return bits_as<float>(x); }

// Elsewhere products and sums may be fused, as nvcc does.
inline float __fmul_rn(float a, float b) {
  volatile float product = a * b;
  return product;
}

void __syncthreads();
void __syncwarp();
int __syncthreads_or(int predicate);

namespace fastclip::cuda {

constexpr int WARP = 32;

// float16.cuh
using float16 = _Float16;
struct bfloat16 {
  uint16_t bits;
};

inline uint32_t packed_float16(float first, float second) {
  const uint32_t low = bits_as<uint16_t>(static_cast<float16>(first));
  return low | uint32_t{bits_as<uint16_t>(static_cast<float16>(second))} << 16;
}

inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? 0.0f * x : x; }
inline float exp2_approx(float x) { return flushed(std::exp2(flushed(x))); }
inline float reciprocal_approx(float x) { return flushed(1.0f / flushed(x)); }

// warp.cuh
uint32_t shuffle_xor_bits(uint32_t value, int lanes);
inline float shuffle_xor(float value, int lanes) {
  return bits_as<float>(shuffle_xor_bits(bits_as<uint32_t>(value), lanes));
}
inline double shuffle_xor(double value, int lanes) {
  const uint64_t bits = bits_as<uint64_t>(value);
  const uint32_t low = shuffle_xor_bits(static_cast<uint32_t>(bits), lanes);
  return bits_as<double>(uint64_t{shuffle_xor_bits(bits >> 32, lanes)} << 32 | low);
}
inline bool any_of_warp(bool own) {
  uint32_t any = own;
  for (int lanes = 1; lanes < WARP; lanes *= 2) any |= shuffle_xor_bits(any, lanes);
  return any != 0;
}

// async_copy.cuh
void copy_async(void* shared, const void* global);
void commit_copies();
void wait_for_copies(int pending);
template <int PENDING>
void wait_for_copies() {
  wait_for_copies(PENDING);
}

// tensor_core.cuh
void load_matrices(uint32_t (&registers)[4], const void* row);
void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

// cluster.cuh
struct alignas(8) Barrier {
  uint64_t state;  // the emulator's own is elsewhere
};
int rank_in_cluster();
void synchronize_cluster();
void initialize(Barrier& barrier, int count);
inline void publish_barriers() {}
void arrive_expecting(Barrier& barrier, int bytes);
void arrive(Barrier& barrier);
void arrive_at(Barrier& barrier, int rank);
void wait(Barrier& barrier, int parity);

// bulk_copy.cuh
constexpr int BOX_COLS = 64;
struct TensorMap {
  char* values = nullptr;
  int64_t rows = 0, cols = 0;
  int box_rows = 0;
};
void load_box(void* shared, const TensorMap& of, Barrier& barrier, int row, int col, uint16_t mask);
inline void load_box(void* shared, const TensorMap& of, Barrier& barrier, int row, int col) {
  load_box(shared, of, barrier, row, col, 1 << rank_in_cluster());
}
void store_box(const TensorMap& of, const void* shared, int row, int col);
inline void publish_to_stores() {}
void commit_stores();
void wait_for_stores_to_read();

// warpgroup.cuh
constexpr int WARPGROUP = 128;
uint64_t factor_descriptor(const void* shared);
inline uint64_t moved(uint64_t descriptor, int bytes) { return descriptor + (bytes >> 4); }
inline void publish_accumulators() {}
inline void settle_accumulators(float (&)[32][4]) {}
void multiply_64x256(float (&c)[32][4], uint64_t a, uint64_t b, bool add);
void commit_products();
void wait_for_products(int pending);
template <int PENDING>
void wait_for_products() {
  wait_for_products(PENDING);
}
template <int COUNT>
void give_registers() {}
template <int COUNT>
void take_registers() {}
void synchronize(int barrier, int threads);
void store_matrices(void* row, uint32_t a, uint32_t b, uint32_t c, uint32_t d);

// launch.cuh
char* shared_memory();
inline int multiprocessors() { return 4; }  // few: blocks have several tiles
void run_grid(const char* name, dim3 grid, int threads, int shared_bytes, int cluster,
              const std::function<void()>& body);
template <typename Parameters>
void launch(void (*kernel)(Parameters), const char* name, dim3 grid, int threads, int shared_bytes,
            int64_t stream, const Parameters& parameters, int cluster = 1) {
  run_grid(name, grid, threads, shared_bytes, cluster, [&] { kernel(parameters); });
}

}  // namespace fastclip::cuda

inline float __half2float(fastclip::cuda::float16 x) { return x; }
inline fastclip::cuda::float16 __float2half_rn(float x) {
  return static_cast<fastclip::cuda::float16>(x);
}
inline float __bfloat162float(fastclip::cuda::bfloat16 x) {
  return bits_as<float>(uint32_t{x.bits} << 16);
}
inline fastclip::cuda::bfloat16 __float2bfloat16_rn(float x) {
  uint32_t bits = bits_as<uint32_t>(x);
  if (x != x) return {static_cast<uint16_t>(bits >> 16 | 64)};
  bits += 0x7fff + (bits >> 16 & 1);
  return {static_cast<uint16_t>(bits >> 16)};
}
