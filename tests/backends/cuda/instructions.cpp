// Single instructions and parts of kernels, for tests of where they put what.
#include <algorithm>

#include "../../../csrc/cuda/block_tile.cuh"
#include "../../../csrc/cuda/hopper/block_tiles.cuh"
#include "scheduler.h"

namespace fastclip::cuda {

namespace {

void run_block(int threads, int shared_bytes, const std::function<void()>& body) {
  run_grid("a test of layouts", dim3(1), threads, shared_bytes, 1, body);
}

// [thread][which of acc]: row and column in the warp's part of the tile.
template <typename Fragment>
void places_of(int threads, int32_t (*places)[2]) {
  run_block(threads, 0, [=] {
    Fragment fragment;
    float* acc = &fragment.acc[0][0][0];
    constexpr int SIZE = sizeof(fragment.acc) / sizeof(float);
    for (int i = 0; i < SIZE; ++i) acc[i] = i;
    for (int r = 0; r < Fragment::ROWS; ++r)
      for (int c = 0; c < Fragment::COLS; ++c) {
        int32_t (&place)[2] = places[threadIdx.x * SIZE + static_cast<int>(fragment.at(r, c))];
        place[0] = row_of(r);
        place[1] = col_of(c);
      }
  });
}

// Once all threads are here.
void copy_shared(char* to, const char* from, int bytes) {
  __syncthreads();
  if (threadIdx.x == 0) std::copy_n(from, bytes, to);
}

}  // namespace

extern "C" {

void emulated_multiply_add(const uint32_t (*a)[4], const uint32_t (*b)[2], float (*c)[4]) {
  run_block(WARP, 0, [=] {
    multiply_add(c[threadIdx.x], a[threadIdx.x], b[threadIdx.x][0], b[threadIdx.x][1]);
  });
}

void emulated_load_matrices(const char (*rows)[16], uint32_t (*registers)[4]) {
  run_block(WARP, 0, [=] { load_matrices(registers[threadIdx.x], rows[threadIdx.x]); });
}

void emulated_store_matrices(const uint32_t (*registers)[4], char (*rows)[16]) {
  run_block(WARP, 0, [=] {
    const uint32_t (&own)[4] = registers[threadIdx.x];
    store_matrices(rows[threadIdx.x], own[0], own[1], own[2], own[3]);
  });
}

void emulated_portable_places(int32_t (*places)[2]) { places_of<PortableFragment>(WARP, places); }
void emulated_hopper_places(int32_t (*places)[2]) {
  places_of<hopper::HopperFragment>(WARPGROUP, places);
}

uint64_t emulated_descriptor(int offset, int bytes) {
  uint64_t descriptor;
  run_block(1, 0, [&] { descriptor = moved(factor_descriptor(shared_memory() + offset), bytes); });
  return descriptor;
}

// 256 rows of 64 features, in two boxes as columns come.
void emulated_boxes(const uint16_t* values, char* image) {
  using namespace hopper;
  const TensorMap map = tensor_map(values, 2 * BOX_ROWS, BOX_COLS, BOX_ROWS);
  run_block(1, 2 * BOX_BYTES + sizeof(Barrier), [&] {
    char* shared = shared_memory();
    Barrier& full = *reinterpret_cast<Barrier*>(shared + 2 * BOX_BYTES);
    initialize(full, 1);
    arrive_expecting(full, 2 * BOX_BYTES);
    for (int i = 0; i < 2; ++i) load_box(shared + i * BOX_BYTES, map, full, i * BOX_ROWS, 0);
    wait(full, 0);
    copy_shared(image, shared, 2 * BOX_BYTES);
  });
}

// Features k to k + 15 of 64 rows and 256 columns, which are here as they lie in shared memory.
void emulated_multiply_64x256(const char* rows, const char* cols, float (*c)[32][4], int k) {
  constexpr int ROW_BYTES = 64 * BOX_COLS * 2, COL_BYTES = 256 * BOX_COLS * 2;
  run_block(WARPGROUP, ROW_BYTES + COL_BYTES, [=] {
    char* shared = shared_memory();
    if (threadIdx.x == 0) {
      std::copy_n(rows, ROW_BYTES, shared);
      std::copy_n(cols, COL_BYTES, shared + ROW_BYTES);
    }
    __syncthreads();
    const uint64_t a = factor_descriptor(shared), b = factor_descriptor(shared + ROW_BYTES);
    multiply_64x256(c[threadIdx.x], moved(a, k * 2), moved(b, k * 2), k > 0);
    commit_products();
    wait_for_products<0>();
  });
}

// 128 rows, and as many columns, of 32 features: a stage of the portable kernels.
void emulated_stage(const uint16_t* rows, const uint16_t* cols, char* image) {
  const Operand left{rows, 1, BLOCK, BLOCK_K, BLOCK}, right{cols, 1, BLOCK, BLOCK_K, BLOCK};
  const TileWalk walk{0, 0, 0, 0, 1};
  run_block(THREADS, STAGE_BYTES, [&] {
    Loader(left, right, walk).fill(shared_memory());
    commit_copies();
    wait_for_copies<0>();
    copy_shared(image, shared_memory(), STAGE_BYTES);
  });
}

int emulated_staged_bytes() { return BLOCK * STAGED_ROW_BYTES; }

// A tile of 128 x 128 on its way out, in shared memory.
void emulated_staged_tile(const float (*tile)[BLOCK], char* image) {
  std::vector<uint16_t> block(BLOCK * BLOCK);
  const GradientBlock of{block.data(), 1, BLOCK, BLOCK, 0, 0};
  run_block(THREADS, BLOCK * STAGED_ROW_BYTES, [&] {
    PortableFragment values;
    for (int r = 0; r < PortableFragment::ROWS; ++r)
      for (int c = 0; c < PortableFragment::COLS; ++c)
        values.at(r, c) = tile[warp_row() + row_of(r)][warp_col() + col_of(c)];
    store_plane(of, 0, {0, 0}, values, shared_memory());
    copy_shared(image, shared_memory(), BLOCK * STAGED_ROW_BYTES);
  });
}

// Likewise on Hopper, 64 x 256 of each of two warpgroups.
void emulated_stored_tile(const float (*tile)[hopper::BLOCK_COLS], char* image) {
  using namespace hopper;
  std::vector<uint16_t> values(BLOCK_ROWS * BLOCK_COLS);
  const StoredBlock block = stored_block({values.data(), 1, BLOCK_ROWS, BLOCK_COLS, 0, 0});
  run_block(hopper::THREADS, CONSUMERS * sizeof(Stored), [&] {
    Stored* stored = reinterpret_cast<Stored*>(shared_memory());
    if (!is_producer()) {
      HopperFragment own;
      for (int r = 0; r < HopperFragment::ROWS; ++r)
        for (int c = 0; c < HopperFragment::COLS; ++c)
          own.at(r, c) = tile[hopper::warp_row() + row_of(r)][col_of(c)];
      hopper::store_plane(block, 0, group() * GROUP_ROWS, 0, own, stored[group()]);
      finish_stores();
    }
    copy_shared(image, shared_memory(), CONSUMERS * sizeof(Stored));
  });
}

}  // extern "C"

}  // namespace fastclip::cuda
