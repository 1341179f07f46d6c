// CuTe's layouts as JSON. CuTe is by those who made the instructions: a reading of the PTX ISA that
// owes nothing to this project's. Compiled for the host; no device is needed.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <utility>

namespace {

alignas(1024) char memory[227 << 10];  // in place of a block's shared memory

size_t __cvta_generic_to_shared(const void* pointer) {
  return static_cast<const char*>(pointer) - memory;
}

}  // namespace

// So that CuTe asks the function above for addresses, as it does on a device.
#define CUTE_CVTA_GENERIC_TO_SHARED_ACTIVATED 1
#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/copy_traits_sm90.hpp>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/tensor.hpp>

// The kernels' own, since the emulator has a copy.
#include "../../../csrc/cuda/device/warpgroup.cuh"

using namespace cute;

namespace {

using Mma = MMA_Traits<SM80_16x8x16_F32F16F16F32_TN>;
using Wgmma = SM90_64x256x16_F32F16F16_SS<GMMA::Major::K, GMMA::Major::K>;
using Load = Copy_Traits<SM75_U32x4_LDSM_N>;
using Store = Copy_Traits<SM90_U32x4_STSM_N>;

const char* before = "{";

// `entry(i, j)` prints one.
template <typename Entry>
void print_table(const char* name, int rows, int cols, Entry&& entry) {
  std::printf("%s\"%s\": [", std::exchange(before, ",\n"), name);
  for (int i = 0; i < rows; ++i) {
    std::printf(i > 0 ? ",\n[" : "\n[");
    for (int j = 0; j < cols; ++j) {
      if (j > 0) std::printf(", ");
      entry(i, j);
    }
    std::printf("]");
  }
  std::printf("]");
}

// [thread][value]: (row, column) in a matrix of that many rows.
template <typename Layout>
void print_places(const char* name, Layout layout, int rows) {
  print_table(name, size<0>(layout), size<1>(layout), [&](int thread, int value) {
    const int index = layout(thread, value);
    std::printf("[%d, %d]", index % rows, index / rows);
  });
}

// [thread][value]: which of the 256 numbers that are copied.
template <typename Layout>
void print_numbers(const char* name, Layout layout) {
  print_table(name, size<0>(layout), size<1>(layout) / 16, [&](int thread, int value) {
    std::printf("%d", static_cast<int>(layout(thread, value * 16)) / 16);
  });
}

// Rows of 64 features.
template <typename Rows>
auto factor(int offset) {
  using Shape = Shape<Rows, _64>;
  return make_tensor(make_smem_ptr(reinterpret_cast<half_t*>(memory + offset)),
                     tile_to_shape(GMMA::Layout_K_SW128_Atom<half_t>{}, Shape{}));
}

void print_descriptors() {
  const auto wgmma = make_tiled_mma(MMA_Atom<Wgmma>{}).get_slice(0);
  print_table("descriptors", 16, 4, [&](int i, int k) {
    const int offset = i * (13 << 10);
    const auto a = wgmma.make_fragment_A(wgmma.partition_A(factor<_64>(offset)));
    const auto b = wgmma.make_fragment_B(wgmma.partition_B(factor<_256>(offset)));
    using fastclip::cuda::factor_descriptor, fastclip::cuda::moved;
    const uint64_t own = moved(factor_descriptor(memory + offset), k * 32);
    std::printf("{\"offset\": %d, \"bytes\": %d, \"a\": %llu, \"b\": %llu, \"kernels\": %llu}",
                offset, k * 32, static_cast<unsigned long long>(a(0, 0, k)),
                static_cast<unsigned long long>(b(0, 0, k)), static_cast<unsigned long long>(own));
  });
}

}  // namespace

int main() {
  print_places("mma_a", Mma::ALayout{}, 16);
  print_places("mma_b", Mma::BLayout{}, 8);
  print_places("mma_c", Mma::CLayout{}, 16);
  print_places("wgmma_c", MMA_Traits<Wgmma>::CLayout{}, 64);
  print_numbers("ldmatrix_source", Load::SrcLayout{});
  print_numbers("ldmatrix_destination", Load::DstLayout{});
  print_numbers("stmatrix_source", Store::SrcLayout{});
  print_numbers("stmatrix_destination", Store::DstLayout{});
  const auto rows = factor<_256>(0);
  print_table("swizzle", 256, 64, [&](int row, int k) {
    std::printf("%d", static_cast<int>(reinterpret_cast<const char*>(&rows(row, k)) - memory));
  });
  print_descriptors();
  std::printf("}\n");
}
