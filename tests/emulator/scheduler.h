// Fibers for the threads of a cluster of blocks, and how they wait for each other.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "emulator.h"

namespace emulator {

struct Options {
  unsigned seed = 0;   // of the order in which threads run
  bool early = false;  // copies and products are made when they are asked for
  bool idle = false;   // launches are counted, and nothing is run
};
extern Options options;

using Work = std::function<void()>;

// Work that a thread has asked for, in groups, until it waits for them.
class Later {
 public:
  void add(Work work);
  void commit();
  void wait(int pending);
  bool empty() const { return open_.empty() && groups_.empty(); }
  void clear() { *this = Later(); }

 private:
  std::vector<Work> open_;
  std::deque<std::vector<Work>> groups_;
};

struct Block;

struct Fiber {
  Block* block = nullptr;
  dim3 thread;
  ucontext_t beginning{};
  jmp_buf state;
  bool started = false, done = false;
  std::vector<char> stack;
  Later copies, products, stores;
};

// Where threads meet; it can be used again as soon as all have met.
struct Meeting {
  std::vector<Fiber*> waiting;
};

using Lanes = void * [fastclip::cuda::WARP];

struct Warp {
  Meeting meeting;
  Lanes lanes{};
};

// Four warps, and the product that they are about to ask for together.
struct Warpgroup {
  Meeting meeting;
  std::shared_ptr<void> product;
};

struct Block {
  dim3 index;
  int rank = 0;  // in the cluster
  int alive = 0;
  int any = 0;  // of __syncthreads_or
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Warp> warps;
  Meeting all;
  std::map<int, Meeting> named;
  std::map<int, Warpgroup> warpgroups;
  std::vector<char> memory;
  char* shared = nullptr;

  char* at(int64_t offset) { return shared + offset; }
  int64_t offset(const void* pointer) const { return static_cast<const char*>(pointer) - shared; }
};

// Blocks that run at the same time.
struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<Fiber*> ready;
  std::vector<Work> bulk_copies;  // on their way
  Meeting all;

  int alive() const;
};
extern Cluster cluster;

Fiber& self();
int lane();
void make_ready(Fiber* fiber);
void park();

// Until `expected` threads have called it with this meeting; the last one does `together` for all
// before anyone goes on.
void meet(Meeting& meeting, int expected, const Work& together = [] {});

// As `meet`, of the warp, whose lanes deposit the addresses of what they bring and take.
void meet_in_warp(void* own, const std::function<void(Lanes&)>& together);

}  // namespace emulator
