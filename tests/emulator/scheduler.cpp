#include "scheduler.h"

#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

dim3 threadIdx, blockIdx, gridDim;

namespace emulator {

Options options;
Cluster cluster;
std::set<std::string> launches;  // "name threads shared_bytes"
int num_launches = 0;

namespace {

constexpr size_t STACK_BYTES = 64 << 10;
constexpr int GUARD_BYTES = 256;
constexpr int ALIGNMENT = 1024;
constexpr char GUARD = 0x5a, NOTHING = static_cast<char>(0xff);  // as float16 and float32, nan

const Work* body;
Fiber* running;
jmp_buf scheduler;
std::exception_ptr failure;

// Ends by going back to the scheduler, and begins again there with the next block.
void run_fiber() {
  for (;;) {
    try {
      (*body)();
      if (!self().stores.empty())
        throw std::runtime_error("a block ended before its stores had read shared memory");
    } catch (...) {
      failure = std::current_exception();
    }
    running->done = true;
    park();
  }
}

void resume(Fiber& fiber) {
  running = &fiber;
  threadIdx = fiber.thread;
  blockIdx = fiber.block->index;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.state, 1);
  fiber.started = true;
  setcontext(&fiber.beginning);
}

std::unique_ptr<Fiber> new_fiber(Block* block, int thread) {
  auto fiber = std::make_unique<Fiber>();
  fiber->block = block;
  fiber->thread = dim3(thread, 0, 0);
  fiber->stack.resize(STACK_BYTES);
  getcontext(&fiber->beginning);
  fiber->beginning.uc_stack.ss_sp = fiber->stack.data();
  fiber->beginning.uc_stack.ss_size = fiber->stack.size();
  fiber->beginning.uc_link = nullptr;
  makecontext(&fiber->beginning, run_fiber, 0);
  return fiber;
}

void prepare(Block& block, int threads, int shared_bytes) {
  // Fibers are kept from block to block: to make them is slow.
  while (static_cast<int>(block.fibers.size()) < threads)
    block.fibers.push_back(new_fiber(&block, block.fibers.size()));
  block.warps.assign((threads + 31) / 32, Warp());
  block.all = Meeting();
  block.named.clear();
  block.warpgroups.clear();
  block.alive = threads;
  for (int t = 0; t < threads; ++t) {
    Fiber& fiber = *block.fibers[t];
    fiber.done = false;
    for (Later* later : {&fiber.copies, &fiber.products, &fiber.stores}) later->clear();
    make_ready(&fiber);
  }
  block.memory.assign(ALIGNMENT + shared_bytes + GUARD_BYTES, NOTHING);
  const uintptr_t address = reinterpret_cast<uintptr_t>(block.memory.data());
  block.shared = block.memory.data() + (ALIGNMENT - address % ALIGNMENT) % ALIGNMENT;
  std::fill_n(block.at(shared_bytes), GUARD_BYTES, GUARD);
}

template <typename T>
T take_any(std::vector<T>& from, std::minstd_rand& random) {
  std::swap(from[random() % from.size()], from.back());
  T taken = std::move(from.back());
  from.pop_back();
  return taken;
}

void run_threads(std::minstd_rand& random) {
  for (;;) {
    if (!cluster.ready.empty()) {
      Fiber* next = take_any(cluster.ready, random);
      resume(*next);
      next->block->alive -= next->done;
      if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
    } else if (!cluster.bulk_copies.empty()) {
      take_any(cluster.bulk_copies, random)();
    } else {
      break;
    }
  }
  if (cluster.alive() > 0)
    throw std::runtime_error(std::to_string(cluster.alive()) + " threads wait for ever");
}

void run_cluster(dim3 first, int threads, int shared_bytes, int size, std::minstd_rand& random) {
  cluster.ready.clear();
  cluster.bulk_copies.clear();
  cluster.all = Meeting();
  while (static_cast<int>(cluster.blocks.size()) < size)
    cluster.blocks.push_back(std::make_unique<Block>());
  for (int rank = 0; rank < static_cast<int>(cluster.blocks.size()); ++rank)
    cluster.blocks[rank]->alive = 0;
  for (int rank = 0; rank < size; ++rank) {
    Block& block = *cluster.blocks[rank];
    block.index = dim3(first.x + rank, first.y, 0);
    block.rank = rank;
    prepare(block, threads, shared_bytes);
  }
  try {
    run_threads(random);
  } catch (...) {
    cluster.blocks.clear();  // some threads are in the middle of it
    throw;
  }
  for (int rank = 0; rank < size; ++rank)
    for (int i = 0; i < GUARD_BYTES; ++i)
      if (*cluster.blocks[rank]->at(shared_bytes + i) != GUARD)
        throw std::runtime_error("a block wrote beyond its shared memory");
}

}  // namespace

void Later::add(Work work) {
  if (options.early)
    work();
  else
    open_.push_back(std::move(work));
}

void Later::commit() {
  groups_.push_back(std::move(open_));
  open_.clear();
}

void Later::wait(int pending) {
  for (; static_cast<int>(groups_.size()) > pending; groups_.pop_front())
    for (const Work& work : groups_.front()) work();
}

int Cluster::alive() const {
  int sum = 0;
  for (const auto& block : blocks) sum += block->alive;
  return sum;
}

Fiber& self() { return *running; }

int lane() { return threadIdx.x % fastclip::cuda::WARP; }

void make_ready(Fiber* fiber) { cluster.ready.push_back(fiber); }

void park() {
  if (_setjmp(self().state) == 0) _longjmp(scheduler, 1);
}

void meet(Meeting& meeting, int expected, const Work& together) {
  if (static_cast<int>(meeting.waiting.size()) + 1 < expected) {
    meeting.waiting.push_back(&self());
    return park();
  }
  together();
  for (Fiber* fiber : meeting.waiting) make_ready(fiber);
  meeting.waiting.clear();
}

void meet_in_warp(void* own, const std::function<void(Lanes&)>& together) {
  Warp& warp = self().block->warps[threadIdx.x / fastclip::cuda::WARP];
  warp.lanes[lane()] = own;
  meet(warp.meeting, fastclip::cuda::WARP, [&] { together(warp.lanes); });
}

}  // namespace emulator

void __syncthreads() {
  emulator::Block& block = *emulator::self().block;
  emulator::meet(block.all, block.alive);
}

void __syncwarp() {
  emulator::meet_in_warp(nullptr, [](emulator::Lanes&) {});
}

int __syncthreads_or(int predicate) {
  emulator::Block& block = *emulator::self().block;
  block.any |= predicate;
  __syncthreads();
  const int result = block.any;
  // Nobody asks again before all have read.
  emulator::meet(block.all, block.alive, [&] { block.any = 0; });
  return result;
}

namespace fastclip::cuda {

char* shared_memory() { return emulator::self().block->shared; }

void run_grid(const char* name, dim3 grid, int threads, int shared_bytes, int cluster,
              const std::function<void()>& body) {
  ++emulator::num_launches;
  if (emulator::options.idle) return;
  emulator::launches.insert(std::string(name) + " " + std::to_string(threads) + " " +
                            std::to_string(shared_bytes));
  std::minstd_rand random(emulator::options.seed + 1);
  emulator::body = &body;
  gridDim = grid;
  try {
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; x += cluster)
        emulator::run_cluster(dim3(x, y), threads, shared_bytes, cluster, random);
  } catch (const std::exception& error) {
    throw std::runtime_error(std::string(name) + ": " + error.what());
  }
}

}  // namespace fastclip::cuda

extern "C" void fastclip_emulator_options(unsigned seed, bool early) {
  emulator::options = {seed, early, false};
}

// Until options are set again, kernels are launched and not run: what is left is the host's work.
extern "C" void fastclip_emulator_idle() { emulator::options.idle = true; }

// Since the library was loaded.
extern "C" int fastclip_emulator_num_launches() { return emulator::num_launches; }

// All different ones since the library was loaded, a line each.
extern "C" const char* fastclip_emulator_launches() {
  static std::string lines;
  lines.clear();
  for (const std::string& launch : emulator::launches) lines += launch + "\n";
  return lines.c_str();
}
