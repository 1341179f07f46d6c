// Tiles of similarities on Hopper (sm_90a): the product that its kernels start from.
//
// Math
//   acc_ij = <row_i, col_j> of the operands (operands.cu), of one plane or two:
//     one    high_i high_j
//     two    low_i high_j + high_i low_j + high_i high_j: 22 bits of either factor
// Tiling
//   128 x 256 of a block, 64 features at a time through shared memory; two blocks below each other
//   are a cluster and share their columns: each loads half of them for both.
// Cost
//   128 FLOPs per byte from the L2 cache, of which a quarter is loaded once for two blocks.
// Numerics
//   float16 factors, float32 sums; the small products first, where the sum has room for their
//   digits.
//   22 bits are those of the factors. A sum has fewer: tensor cores truncate where they add (Fasi et
//   al. 2021), so that it is drawn toward zero at every step of 16 features
//   (fastclip/backends/gpu/precision.py has figures). The emulator rounds.
// Limits
//   Operands are padded to whole tiles of the cluster with zeros.
// Schedule
//   Three warpgroups. The first's first thread is the producer: for every step it waits until both
//   blocks have left a stage of the ring, announces 48 KiB, and asks the copy engine for its 128
//   rows and for its half of the columns, which arrives in both blocks. The other two multiply 64
//   rows each, wgmma.m64n256k16, with one step in flight: when step k is issued, step k - 1 has
//   left its stage, and both blocks' producers are told. The ring goes on across tiles, so that the
//   next tile arrives during an epilogue. The two multiplying warpgroups wait for stages, not for
//   each other; nothing but a lead drives them apart, and nothing takes it away. So the second
//   begins when the first is half a ring ahead, and one multiplies while the other is at its
//   epilogue.
// Why nobody waits for ever, and nothing is read too early or written too late
//   full, empty   All three sides walk stages and parities alike (`Turn`), over as many tiles: those
//                 of a cluster, not of a block. A phase cannot be missed: the producer needs
//                 every warpgroup's arrival to begin a stage again, and a warpgroup the producer's.
//                 The other block's bytes may come before this block has announced its own: a
//                 phase does not end before the one arrival that `full` counts.
//   lead          One phase, one arrival, by the first group after at most half a ring of steps, which
//                 need no stage again: it waits for nothing that the second group does.
//   registers     168 of each thread at launch, 40 and 232 after all four warps of the producer's
//                 group have given theirs, for which the others wait: the sum is the same.
//   named         Barriers 1 and 2 are the consumers': no warp of the producer's group is at one.
//   the end       Arrivals go to the other block's memory, which lives until both blocks are at the
//                 cluster's last barrier; warps get there whole.
// Source
//   The division of labour is that of CUTLASS 3's cooperative kernels; Markidis et al. 2018,
//   arXiv:1803.04014, for splitting a factor into two halves; Fasi et al. 2021, "Numerical behavior
//   of NVIDIA tensor cores", PeerJ Computer Science 7:e330.
#pragma once

#include "../features.h"
#include "../fragment.cuh"
#include "../tensor_map.h"

namespace fastclip::cuda::hopper {

constexpr int CLUSTER = 2;  // blocks, one below the other
constexpr int BLOCK_ROWS = 128, BLOCK_COLS = 256, BLOCK_K = BOX_COLS;
constexpr int TILE_ROWS = CLUSTER * BLOCK_ROWS;  // of a cluster
constexpr int BOX_ROWS = 128, BOX_BYTES = BOX_ROWS * BLOCK_K * 2;
constexpr int STAGE_BYTES = 3 * BOX_BYTES;  // the block's rows, both halves of the columns
constexpr int CONSUMERS = 2, GROUP_ROWS = BLOCK_ROWS / CONSUMERS;
constexpr int THREADS = (1 + CONSUMERS) * WARPGROUP;
// Of a thread: 168 are given to each at launch, those of the producer are lent to the others.
constexpr int PRODUCER_REGISTERS = 40, CONSUMER_REGISTERS = 232;
constexpr int FETCHING_WARP = 1;  // of the producer's group
constexpr uint16_t BOTH = 3;

using HopperFragment = Fragment<1, BLOCK_COLS / 8>;

// What a kernel is given of its two operands.
struct Factors {
  TensorMap rows;
  TensorMap cols;
  int32_t row_plane;  // rows of a plane
  int32_t col_plane;
  int32_t dim;
  int32_t segments;  // products of planes that a product of operands is made of
};

inline Factors factors_of(const Operand& rows, const Operand& cols) {
  const int64_t planes = rows.planes;
  return {tensor_map(rows.values, planes * rows.plane_rows, rows.dim, BOX_ROWS),
          tensor_map(cols.values, planes * cols.plane_rows, cols.dim, BOX_ROWS),
          rows.plane_rows,
          cols.plane_rows,
          rows.dim,
          planes == 1 ? 1 : 3};
}

// The first row and column of a tile of the cluster.
struct TilePosition {
  int row, col;
};

template <int STAGES>
struct Ring {
  char stages[STAGES][STAGE_BYTES];  // first: swizzled boxes have to begin at multiples of 1024
  Barrier full[STAGES];
  Barrier empty[STAGES];
  Barrier lead;  // the first group has it

  FASTCLIP_DEVICE void initialize() {
    if (threadIdx.x == 0) {
      for (int i = 0; i < STAGES; ++i) {
        cuda::initialize(full[i], 1);
        cuda::initialize(empty[i], CLUSTER * CONSUMERS);
      }
      cuda::initialize(lead, 1);
      publish_barriers();
    }
    synchronize_cluster();
  }
};

// Which stage is next, and the parity of its phase.
template <int STAGES>
struct Turn {
  int stage = 0, parity = 0;

  FASTCLIP_DEVICE void advance() {
    if (++stage < STAGES) return;
    stage = 0;
    parity ^= 1;
  }
};

FASTCLIP_DEVICE bool is_producer() { return threadIdx.x < WARPGROUP; }
// Of the consumers.
FASTCLIP_DEVICE int group() { return threadIdx.x / WARPGROUP - 1; }
FASTCLIP_DEVICE int thread_of_group() { return threadIdx.x % WARPGROUP; }
// Of the block's tile.
FASTCLIP_DEVICE int warp_row() { return group() * GROUP_ROWS + thread_of_group() / WARP * 16; }

// The producer's part; one thread. position(i): of the cluster's tile i.
template <int STAGES, typename Position>
FASTCLIP_DEVICE void load_tiles(const Factors& of, Ring<STAGES>& ring, int num_tiles,
                                Position&& position) {
  const int rank = rank_in_cluster();
  Turn<STAGES> turn;
  for (int i = 0; i < num_tiles; ++i) {
    const TilePosition tile = position(i);
    for (int segment = of.segments - 1; segment >= 0; --segment) {
      const int row = tile.row + rank * BLOCK_ROWS + (segment == 2 ? of.row_plane : 0);
      const int col = tile.col + rank * BOX_ROWS + (segment == 1 ? of.col_plane : 0);
      for (int k = 0; k < of.dim; k += BLOCK_K) {
        char* stage = ring.stages[turn.stage];
        Barrier& full = ring.full[turn.stage];
        wait(ring.empty[turn.stage], turn.parity ^ 1);
        arrive_expecting(full, STAGE_BYTES);
        load_box(stage, of.rows, full, row, k);
        load_box(stage + (1 + rank) * BOX_BYTES, of.cols, full, col, k, BOTH);
        turn.advance();
      }
    }
  }
}

// The consumers' part. epilogue(logits, i) for every tile i.
template <int STAGES, typename Epilogue>
FASTCLIP_DEVICE void multiply_tiles(const Factors& of, Ring<STAGES>& ring, int num_tiles,
                                    Epilogue&& epilogue) {
  const int steps = of.dim / BLOCK_K * of.segments;
  const auto release = [&](int stage) {
    if (thread_of_group() < CLUSTER) arrive_at(ring.empty[stage], thread_of_group());
  };
  const int lead = min(steps, STAGES / 2);
  if (group() == 1 && num_tiles > 0) wait(ring.lead, 0);
  Turn<STAGES> turn;
  for (int i = 0; i < num_tiles; ++i) {
    HopperFragment logits;
    int last_stage = 0;
    for (int step = 0; step < steps; ++step) {
      wait(ring.full[turn.stage], turn.parity);
      const char* stage = ring.stages[turn.stage];
      const uint64_t rows = factor_descriptor(stage + group() * GROUP_ROWS * BLOCK_K * 2);
      const uint64_t cols = factor_descriptor(stage + BOX_BYTES);
      publish_accumulators();
#pragma unroll
      for (int k = 0; k < BLOCK_K; k += 16)
        multiply_64x256(logits.acc[0], moved(rows, k * 2), moved(cols, k * 2), step + k > 0);
      commit_products();
      wait_for_products<1>();
      if (step > 0) release(last_stage);
      if (i == 0 && step + 1 == lead && threadIdx.x == WARPGROUP) arrive(ring.lead);
      last_stage = turn.stage;
      turn.advance();
    }
    wait_for_products<0>();
    settle_accumulators(logits.acc[0]);
    release(last_stage);
    epilogue(logits, i);
  }
}

struct Nothing {
  FASTCLIP_DEVICE void operator()() const {}
};

// The whole block: `consume` runs in the consumers, and calls multiply_tiles; `fetch` in a warp
// beside the producer, with as few registers.
template <int STAGES, typename Position, typename Consume, typename Fetch = Nothing>
FASTCLIP_DEVICE void divide_labour(const Factors& of, Ring<STAGES>& ring, int num_tiles,
                                   Position&& position, Consume&& consume, Fetch&& fetch = {}) {
  ring.initialize();
  if (is_producer()) {
    give_registers<PRODUCER_REGISTERS>();
    if (threadIdx.x == 0) load_tiles(of, ring, num_tiles, position);
    if (threadIdx.x / WARP == FETCHING_WARP) fetch();
    __syncwarp();  // the cluster's barrier wants whole warps
  } else {
    take_registers<CONSUMER_REGISTERS>();
    consume();
  }
  // A block stays until nobody writes to its barriers any more.
  synchronize_cluster();
}

}  // namespace fastclip::cuda::hopper
