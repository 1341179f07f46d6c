// Kernels with the mistakes that the emulator is there to see. Prints "name: what came of it".
#include <cstdio>
#include <exception>

#include "emulator.h"

using namespace fastclip::cuda;

namespace {

struct Parameters {
  const float* in;
  float* out;
  TensorMap map;
};

bool is_nan(float x) { return x != x; }

// Four floats of every thread through shared memory, asynchronously.
template <bool WAITS, bool MEETS>
void copy_kernel(Parameters of) {
  float* shared = reinterpret_cast<float*>(shared_memory());
  copy_async(shared + 4 * threadIdx.x, of.in + 4 * threadIdx.x);
  commit_copies();
  if (WAITS) wait_for_copies<0>();
  if (MEETS) __syncthreads();
  for (int i = 0; i < 4; ++i) of.out[4 * threadIdx.x + i] = shared[4 * (threadIdx.x ^ 37) + i];
}

void diverging_barrier_kernel(Parameters) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    synchronize(1, 64);
}

void beyond_shared_kernel(Parameters) { shared_memory()[256] = 1; }

struct Stage {
  char box[64 * BOX_COLS * 2];
  Barrier full;
};

// A box of a matrix: `bytes` are announced, `aligned` says where it goes.
template <int BYTES, bool WAITS, int OFFSET>
void load_kernel(Parameters of) {
  Stage& stage = *reinterpret_cast<Stage*>(shared_memory());
  if (threadIdx.x == 0) {
    initialize(stage.full, 1);
    arrive_expecting(stage.full, BYTES);
    load_box(stage.box + OFFSET, of.map, stage.full, 0, 0);
  }
  __syncthreads();
  if (WAITS) wait(stage.full, 0);
  float16 first;
  std::memcpy(&first, stage.box, 2);
  if (threadIdx.x == 0) of.out[0] = first;
}

template <bool WAITS>
void store_kernel(Parameters of) {
  if (threadIdx.x > 0) return;
  store_box(of.map, shared_memory(), 0, 0);
  commit_stores();
  if (WAITS) wait_for_stores_to_read();
}

template <bool WAITS>
void product_kernel(Parameters of) {
  float c[32][4] = {};
  std::memset(shared_memory(), 0, threadIdx.x == 0 ? 49152 : 0);
  __syncthreads();
  const uint64_t factor = factor_descriptor(shared_memory());
  for (auto& four : c) four[0] = 7.0f;
  multiply_64x256(c, factor, factor, false);
  commit_products();
  if (WAITS) wait_for_products<0>();
  of.out[threadIdx.x] = c[0][0];
  wait_for_products<0>();
}

template <typename Verdict>
void attempt(const char* name, void (*kernel)(Parameters), int threads, int shared_bytes,
             Verdict&& verdict) {
  static float in[1024], out[1024];
  static float16 matrix[64 * BOX_COLS];
  for (int i = 0; i < 1024; ++i) in[i] = i, out[i] = -1.0f;
  for (auto& x : matrix) x = static_cast<float16>(3.0f);
  const Parameters of{in, out, {reinterpret_cast<char*>(matrix), 64, BOX_COLS, 64}};
  try {
    launch(kernel, name, dim3(1), threads, shared_bytes, 0, of);
    std::printf("%s: %s\n", name, verdict(in, out));
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
  }
}

const char* copied(const float* in, const float* out) {
  for (int t = 0; t < 64; ++t)
    for (int i = 0; i < 4; ++i)
      if (out[4 * t + i] != in[4 * (t ^ 37) + i]) return is_nan(out[4 * t + i]) ? "nan" : "wrong";
  return "right";
}
const char* first_is_3(const float*, const float* out) {
  return out[0] == 3.0f ? "right" : is_nan(out[0]) ? "nan" : "wrong";
}
const char* all_are_0(const float*, const float* out) {
  for (int t = 0; t < WARPGROUP; ++t)
    if (out[t] != 0.0f) return "wrong";
  return "right";
}
const char* nothing(const float*, const float*) { return "right"; }

}  // namespace

int main() {
  constexpr int BOX = 64 * BOX_COLS * 2, STAGE = sizeof(Stage);
  attempt("copy", copy_kernel<true, true>, 64, 1024, copied);
  attempt("copy without a wait", copy_kernel<false, true>, 64, 1024, copied);
  attempt("copy without a barrier", copy_kernel<true, false>, 64, 1024, copied);
  attempt("threads at two barriers", diverging_barrier_kernel, 64, 0, nothing);
  attempt("one byte too far", beyond_shared_kernel, 1, 256, nothing);
  attempt("box", load_kernel<BOX, true, 0>, 64, STAGE, first_is_3);
  attempt("box without a wait", load_kernel<BOX, false, 0>, 64, STAGE, first_is_3);
  attempt("box of fewer bytes than announced", load_kernel<BOX + 16, true, 0>, 64, STAGE,
          first_is_3);
  attempt("box that is not aligned", load_kernel<BOX, true, 128>, 64, STAGE + 1024, first_is_3);
  attempt("store", store_kernel<true>, 32, BOX, nothing);
  attempt("store without a wait", store_kernel<false>, 32, BOX, nothing);
  attempt("product", product_kernel<true>, 128, 49152, all_are_0);
  attempt("product without a wait", product_kernel<false>, 128, 49152, all_are_0);
}
