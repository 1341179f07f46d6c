// What a warp does together, with the layouts of the PTX ISA.
#include "scheduler.h"

namespace fastclip::cuda {

using emulator::Lanes;

uint32_t shuffle_xor_bits(uint32_t value, int lanes) {
  struct Exchange {
    uint32_t given, taken;
    int lanes;
  } own{value, 0, lanes};
  emulator::meet_in_warp(&own, [](Lanes& all) {
    for (int lane = 0; lane < WARP; ++lane) {
      auto* of = static_cast<Exchange*>(all[lane]);
      of->taken = static_cast<Exchange*>(all[lane ^ of->lanes])->given;
    }
  });
  return own.taken;
}

void copy_async(void* shared, const void* global) {
  emulator::self().copies.add([=] { std::memcpy(shared, global, 16); });
}
void commit_copies() { emulator::self().copies.commit(); }
void wait_for_copies(int pending) { emulator::self().copies.wait(pending); }

void load_matrices(uint32_t (&registers)[4], const void* row) {
  struct Load {
    uint32_t* registers;
    const char* row;
  } own{registers, static_cast<const char*>(row)};
  emulator::meet_in_warp(&own, [](Lanes& all) {
    for (int lane = 0; lane < WARP; ++lane)
      for (int matrix = 0; matrix < 4; ++matrix) {
        const auto* from = static_cast<Load*>(all[8 * matrix + lane / 4]);
        auto* to = static_cast<Load*>(all[lane]);
        std::memcpy(&to->registers[matrix], from->row + lane % 4 * 4, 4);
      }
  });
}

void store_matrices(void* row, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  struct Store {
    uint32_t registers[4];
    char* row;
  } own{{a, b, c, d}, static_cast<char*>(row)};
  emulator::meet_in_warp(&own, [](Lanes& all) {
    for (int lane = 0; lane < WARP; ++lane)
      for (int matrix = 0; matrix < 4; ++matrix) {
        const auto* from = static_cast<Store*>(all[lane]);
        auto* to = static_cast<Store*>(all[8 * matrix + lane / 4]);
        std::memcpy(to->row + lane % 4 * 4, &from->registers[matrix], 4);
      }
  });
}

void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Factors {
    float* c;
    float16 a[8], b[4];
  } own;
  own.c = c;
  std::memcpy(own.a, a, sizeof(own.a));
  std::memcpy(own.b, &b0, 4);
  std::memcpy(own.b + 2, &b1, 4);
  emulator::meet_in_warp(&own, [](Lanes& all) {
    float A[16][16], B[8][16];
    for (int lane = 0; lane < WARP; ++lane) {
      const auto* of = static_cast<Factors*>(all[lane]);
      const int g = lane / 4, k = lane % 4 * 2;
      for (int i = 0; i < 8; ++i) A[g + i / 2 % 2 * 8][k + i % 2 + i / 4 * 8] = of->a[i];
      for (int i = 0; i < 4; ++i) B[g][k + i % 2 + i / 2 * 8] = of->b[i];
    }
    for (int lane = 0; lane < WARP; ++lane) {
      auto* of = static_cast<Factors*>(all[lane]);
      for (int i = 0; i < 4; ++i) {
        const float* row = A[lane / 4 + i / 2 * 8];
        const float* col = B[lane % 4 * 2 + i % 2];
        double sum = of->c[i];
        for (int k = 0; k < 16; ++k) sum += double{row[k]} * col[k];
        of->c[i] = static_cast<float>(sum);
      }
    }
  });
}

}  // namespace fastclip::cuda
