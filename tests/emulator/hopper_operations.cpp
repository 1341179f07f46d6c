// What Hopper adds: clusters, barriers that count bytes, the copy engine, products of warpgroups.
#include <map>
#include <stdexcept>
#include <utility>

#include "../../csrc/cuda/tensor_map.h"
#include "scheduler.h"

namespace fastclip::cuda {

namespace {

using emulator::Block;
using emulator::cluster;
using emulator::self;

struct State {
  int expected = 0, arrivals = 0;
  int64_t bytes = 0;  // announced and not yet come
  int phase = 0;
  std::vector<emulator::Fiber*> waiting;
};

// By block and offset. Those of blocks that have ended are initialised again before they are used.
std::map<std::pair<Block*, int64_t>, State> barriers;

State& state_of(Block& block, int64_t offset) {
  const auto found = barriers.find({&block, offset});
  if (found == barriers.end()) throw std::runtime_error("a barrier was not initialised");
  return found->second;
}

State& state_of(Barrier& barrier) {
  Block& block = *self().block;
  return state_of(block, block.offset(&barrier));
}

void end_phase_if_complete(State& state) {
  if (state.arrivals < state.expected || state.bytes != 0) return;
  ++state.phase;
  state.arrivals = 0;
  for (emulator::Fiber* fiber : state.waiting) emulator::make_ready(fiber);
  state.waiting.clear();
}

void arrive(State& state) {
  if (++state.arrivals > state.expected) throw std::runtime_error("too many arrivals at a barrier");
  end_phase_if_complete(state);
}

constexpr int ROW_BYTES = BOX_COLS * 2;

// Rows of 128 bytes, 16-byte chunk c of row r at c ^ r % 8.
int swizzled(int row, int chunk) { return row * ROW_BYTES + (chunk ^ row % 8) * 16; }

// copy(in the box, in global memory) for every 16 bytes inside of the matrix.
template <typename Copy>
void over_box(const TensorMap& of, int row, int col, Copy&& copy) {
  for (int r = 0; r < of.box_rows; ++r)
    for (int chunk = 0; chunk < ROW_BYTES / 16; ++chunk) {
      const int64_t i = row + r, j = col + chunk * 8;
      const bool inside = i < of.rows && j < of.cols;
      copy(swizzled(r, chunk), inside ? of.values + (i * of.cols + j) * 2 : nullptr);
    }
}

void require_aligned(const void* shared) {
  if (self().block->offset(shared) % 1024 != 0)
    throw std::runtime_error("a swizzled box does not begin at a multiple of 1024 bytes");
}

}  // namespace

int rank_in_cluster() { return self().block->rank; }

void synchronize_cluster() { emulator::meet(cluster.all, cluster.alive()); }

void initialize(Barrier& barrier, int count) {
  Block& block = *self().block;
  barriers[{&block, block.offset(&barrier)}] = {count};
}

void arrive_expecting(Barrier& barrier, int bytes) {
  State& state = state_of(barrier);
  state.bytes += bytes;
  arrive(state);
}

void arrive(Barrier& barrier) { arrive(state_of(barrier)); }

void arrive_at(Barrier& barrier, int rank) {
  arrive(state_of(*cluster.blocks[rank], self().block->offset(&barrier)));
}

void wait(Barrier& barrier, int parity) {
  State& state = state_of(barrier);
  while (state.phase % 2 == parity) {
    state.waiting.push_back(&self());
    emulator::park();
  }
}

void load_box(void* shared, const TensorMap& of, Barrier& barrier, int row, int col,
              uint16_t mask) {
  require_aligned(shared);
  const int64_t to = self().block->offset(shared), at = self().block->offset(&barrier);
  const auto load = [=, map = of] {
    for (int rank = 0; mask >> rank; ++rank) {
      if (!(mask >> rank & 1)) continue;
      Block& block = *cluster.blocks[rank];
      over_box(map, row, col, [&](int in_box, const char* global) {
        if (global != nullptr)
          std::memcpy(block.at(to + in_box), global, 16);
        else
          std::memset(block.at(to + in_box), 0, 16);
      });
      State& state = state_of(block, at);
      state.bytes -= map.box_rows * ROW_BYTES;
      end_phase_if_complete(state);
    }
  };
  if (emulator::options.early)
    load();
  else
    cluster.bulk_copies.push_back(load);
}

void store_box(const TensorMap& of, const void* shared, int row, int col) {
  require_aligned(shared);
  const char* from = static_cast<const char*>(shared);
  self().stores.add([=, map = of] {
    over_box(map, row, col, [&](int in_box, char* global) {
      if (global != nullptr) std::memcpy(global, from + in_box, 16);
    });
  });
}
void commit_stores() { self().stores.commit(); }
void wait_for_stores_to_read() { self().stores.wait(0); }

TensorMap tensor_map(const void* values, int64_t rows, int64_t cols, int box_rows) {
  return {static_cast<char*>(const_cast<void*>(values)), rows, cols, box_rows};
}

uint64_t factor_descriptor(const void* shared) {
  constexpr uint64_t SWIZZLE_128_BYTES = uint64_t{1} << 62;
  constexpr uint64_t NEXT_EIGHT_ROWS = uint64_t{1024 >> 4} << 32;
  return SWIZZLE_128_BYTES | NEXT_EIGHT_ROWS | uint64_t{1} << 16 |
         static_cast<uint64_t>(self().block->offset(shared)) >> 4;
}

namespace {

using Accumulators = float (*)[4];

// 64 x 256, of 16 features: of all lanes, or of none. That is more than the PTX ISA says, and what
// CUTLASS relies on: where one warp has waited for a product, the others' parts have left the
// stage.
struct Product {
  Block& block;
  uint64_t a, b;
  bool add, done = false;
  Accumulators lanes[WARPGROUP];

  // 16 numbers of a row. The swizzle is one of address bits, so that a start in the middle of a row
  // of 128 bytes works.
  void read(uint64_t descriptor, int row, float (&x)[16]) const {
    const int64_t start = (descriptor & 0x3fff) << 4, eight_rows = (descriptor >> 32 & 0x3fff) << 4;
    for (int k = 0; k < 16; ++k) {
      const int64_t address = start + row / 8 * eight_rows + row % 8 * ROW_BYTES + k * 2;
      float16 value;
      std::memcpy(&value, block.at(address ^ (address >> 7 & 7) << 4), 2);
      x[k] = value;
    }
  }

  void compute() {
    if (std::exchange(done, true)) return;
    float rows[64][16], cols[256][16];
    for (int row = 0; row < 64; ++row) read(a, row, rows[row]);
    for (int col = 0; col < 256; ++col) read(b, col, cols[col]);
    for (int thread = 0; thread < WARPGROUP; ++thread) {
      const int row = thread / WARP * 16 + thread % WARP / 4, col = thread % 4 * 2;
      for (int n = 0; n < 32; ++n)
        for (int i = 0; i < 4; ++i) {
          const float* left = rows[row + i / 2 * 8];
          const float* right = cols[8 * n + col + i % 2];
          float& c = lanes[thread][n][i];
          double sum = add ? c : 0.0f;
          for (int k = 0; k < 16; ++k) sum += double{left[k]} * right[k];
          c = static_cast<float>(sum);
        }
    }
  }
};

}  // namespace

void multiply_64x256(float (&c)[32][4], uint64_t a, uint64_t b, bool add) {
  emulator::Warpgroup& group = self().block->warpgroups[threadIdx.x / WARPGROUP];
  if (!group.product) group.product.reset(new Product{*self().block, a, b, add});
  const auto product = std::static_pointer_cast<Product>(group.product);
  product->lanes[threadIdx.x % WARPGROUP] = c;
  if (product->a != a || product->b != b || product->add != add)
    throw std::runtime_error("the warps of a warpgroup multiply different factors");
  emulator::meet(group.meeting, WARPGROUP, [&] { group.product.reset(); });
  self().products.add([product] { product->compute(); });
}
void commit_products() { self().products.commit(); }
void wait_for_products(int pending) { self().products.wait(pending); }

void synchronize(int barrier, int threads) {
  emulator::meet(self().block->named[barrier], threads);
}

}  // namespace fastclip::cuda
