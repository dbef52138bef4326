// Runs translated PTX: every thread on its own, in random order between synchronisations, with every access checked.
//
// Threads of a warp wait for each other only at shfl.sync, bar.warp.sync and bar.sync, as the memory model says, not
// after each instruction. So what works by luck of lockstep on a GPU fails here.

#include "ptx_runtime.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <vector>

using std::vector;

constexpr u32 WARP = 32, MOST_FAULTS = 20, MOST_JUMPS = 1 << 16;

// A tensor in global memory, as Python hands it over.
struct Range {
  u64 begin, end, written;  // `written` says that the kernel writes it, and then it never reads it
};

struct Tensor {
  Range range;
  vector<u32> writer;  // of each byte: NOBODY, ATOMIC, or the thread's number in the launch plus FIRST_WRITER
};
constexpr u32 NOBODY = 0, ATOMIC = 1, FIRST_WRITER = 2;

// Who touched a word of shared memory, and how many barriers of its block and warp it had passed.
struct Access {
  u32 thread, block_barriers, warp_barriers;
};

struct Word {
  bool written = false;
  Access writer{};
  vector<Access> readers;  // since the last write
};

Launch launch;
static vector<Tensor> tensors;
static vector<u8> shared_memory;
static vector<Word> shared_words;
static u32 block_barriers;
static vector<u32> warp_barriers;
static std::string faults;
static u32 fault_count;
static u64 atomics;
static u8 nowhere[64];

void fault(const Lane& lane, const char* what, u64 first, u64 second) {
  if (fault_count++ >= MOST_FAULTS) return;
  char text[200];
  snprintf(text, sizeof text, "%s (%llu, %llu) at line %u of the entry, block %u, thread %u\n", what, (unsigned long long)first,
           (unsigned long long)second, lane.line, launch.block, lane.thread);
  faults += text;
}

static u8* unused() {
  memset(nowhere, 0, sizeof nowhere);
  return nowhere;
}

static Tensor* find(const Lane& lane, const char* way, u64 address, u32 bytes) {
  if (address % bytes) {
    fault(lane, "misaligned global access", address % bytes, bytes);
    return nullptr;
  }
  for (Tensor& tensor : tensors)
    if (address >= tensor.range.begin && address + bytes <= tensor.range.end) return &tensor;
  fault(lane, way, address, bytes);
  return nullptr;
}

const u8* load_global(const Lane& lane, u64 address, u32 bytes) {
  Tensor* tensor = find(lane, "global load out of bounds", address, bytes);
  if (!tensor) return unused();
  if (tensor->range.written) fault(lane, "load from an output", address - tensor->range.begin, bytes);
  return reinterpret_cast<const u8*>(address);
}

static u8* write_global(const Lane& lane, u64 address, u32 bytes, bool atomic) {
  Tensor* tensor = find(lane, "global store out of bounds", address, bytes);
  if (!tensor) return unused();
  if (!tensor->range.written) {
    fault(lane, "store to an input", address - tensor->range.begin, bytes);
    return unused();
  }
  u32 me = atomic ? ATOMIC : FIRST_WRITER + launch.block * launch.threads + lane.thread;
  for (u64 byte = address - tensor->range.begin, last = byte + bytes; byte < last; ++byte) {
    u32& writer = tensor->writer[byte];
    if (writer != NOBODY && writer != me) fault(lane, "global race", byte, writer);
    writer = me;
  }
  return reinterpret_cast<u8*>(address);
}

u8* store_global(const Lane& lane, u64 address, u32 bytes) { return write_global(lane, address, bytes, false); }

u8* add_global(const Lane& lane, u64 address, u32 bytes) {
  ++atomics;
  return write_global(lane, address, bytes, true);
}

static bool ordered(const Access& before, const Access& after) {
  bool same_warp = before.thread / WARP == after.thread / WARP;
  return before.thread == after.thread || before.block_barriers < after.block_barriers ||
         (same_warp && before.warp_barriers < after.warp_barriers);
}

static void read_word(const Lane& lane, u64 index, const Access& me) {
  Word& word = shared_words[index];
  if (!word.written) fault(lane, "shared memory read before it is written", index);
  if (word.written && !ordered(word.writer, me)) fault(lane, "shared race, read after write", index, word.writer.thread);
  for (Access& reader : word.readers)
    if (reader.thread == me.thread) {
      reader = me;
      return;
    }
  word.readers.push_back(me);
}

static void write_word(const Lane& lane, u64 index, const Access& me) {
  Word& word = shared_words[index];
  if (word.written && !ordered(word.writer, me)) fault(lane, "shared race, write after write", index, word.writer.thread);
  for (const Access& reader : word.readers)
    if (!ordered(reader, me)) fault(lane, "shared race, write after read", index, reader.thread);
  word.readers.clear();
  word.written = true;
  word.writer = me;
}

static u8* access_shared(const Lane& lane, u64 address, u32 bytes, bool write) {
  if (address % bytes) {
    fault(lane, "misaligned shared access", address, bytes);
    return unused();
  }
  if (address + bytes > shared_memory.size()) {
    fault(lane, "shared access out of bounds", address, bytes);
    return unused();
  }
  Access me{lane.thread, block_barriers, warp_barriers[lane.thread / WARP]};
  for (u64 index = address / 4; index < (address + bytes + 3) / 4; ++index)
    write ? write_word(lane, index, me) : read_word(lane, index, me);
  return &shared_memory[address];
}

const u8* load_shared(const Lane& lane, u64 address, u32 bytes) { return access_shared(lane, address, bytes, false); }
u8* store_shared(const Lane& lane, u64 address, u32 bytes) { return access_shared(lane, address, bytes, true); }

bool may_jump(Lane& lane) {
  if (++lane.jumps < MOST_JUMPS) return true;
  fault(lane, "endless loop");
  lane.state = State::EXITED;
  return false;
}

// One block of a launch.
class Block {
 public:
  Block(const Kernel& kernel, const u64* parameters, std::mt19937& random)
      : kernel(kernel), parameters(parameters), random(random), memory(launch.threads * stride()) {
    memset(memory.data(), 0xCD, memory.size());  // registers that are read before they are written show
    for (u32 thread = 0; thread < launch.threads; ++thread) {
      new (&lane(thread)) Lane{};
      lane(thread).thread = thread;
    }
    shared_memory.assign(kernel.shared_bytes, 0xCD);
    shared_words.assign(kernel.shared_bytes / 4 + 1, Word{});
    block_barriers = 0;
    warp_barriers.assign(launch.threads / WARP, 0);
  }

  void run() {
    for (;;) {
      for (u32 warp : in_random_order(launch.threads / WARP))
        if (!run_warp(warp)) return;
      u32 waiting = count(State::AT_BLOCK_BARRIER);
      if (count(State::EXITED) == launch.threads) return;
      if (waiting < launch.threads) return fault(lane(0), "threads end while others wait at bar.sync", waiting);
      ++block_barriers;
      for (u32 thread = 0; thread < launch.threads; ++thread) lane(thread).state = State::RUNNING;
    }
  }

 private:
  const Kernel& kernel;
  const u64* parameters;
  std::mt19937& random;
  vector<u64> memory;

  u32 stride() const { return (kernel.lane_bytes + 7) / 8; }
  Lane& lane(u32 thread) { return *reinterpret_cast<Lane*>(&memory[thread * stride()]); }

  u32 count(State state) {
    u32 found = 0;
    for (u32 thread = 0; thread < launch.threads; ++thread) found += lane(thread).state == state;
    return found;
  }

  vector<u32> in_random_order(u32 count) {
    vector<u32> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    return order;
  }

  // Run a warp until all its threads have ended or wait at bar.sync; false after a fault that it cannot go on from.
  bool run_warp(u32 warp) {
    for (;;) {
      for (u32 place : in_random_order(WARP)) {
        Lane& each = lane(warp * WARP + place);
        if (each.state == State::RUNNING) kernel.run(each, parameters);
      }
      const Lane* met = nullptr;
      bool same = true, ended = false;
      for (u32 place = 0; place < WARP; ++place) {
        const Lane& each = lane(warp * WARP + place);
        if (each.state == State::EXITED) {
          ended = true;
          continue;
        }
        if (!met) met = &each;
        same = same && each.state == met->state && each.at == met->at;
      }
      if (!met) return true;
      if (!same) return fault(*met, "threads of a warp meet at different synchronisations"), false;
      if (met->state == State::AT_BLOCK_BARRIER) return true;  // where threads have ended, `run` sees it
      if (ended) return fault(*met, "a warp synchronises with threads that have ended"), false;
      meet(warp, met->state);
    }
  }

  void meet(u32 warp, State kind) {
    if (kind == State::AT_WARP_BARRIER) ++warp_barriers[warp];  // a shuffle orders no memory
    for (u32 place = 0; place < WARP; ++place) {
      Lane& each = lane(warp * WARP + place);
      if (each.mask != 0xffffffffu) fault(each, "the mask leaves threads out", each.mask);
      if (kind == State::AT_SHUFFLE) {
        u32 from = place ^ each.distance;
        if (each.clamp != WARP - 1 || from >= WARP) fault(each, "a shuffle beyond the warp", each.clamp, from);
        each.result = lane(warp * WARP + from % WARP).value;
      }
      each.state = State::RUNNING;
    }
  }
};

// Run a launch; returns the number of faults and puts the first of them into `text`, a line each.
extern "C" u32 emulate(const Kernel* kernel, u32 blocks, u32 threads, const u64* parameters, const Range* ranges,
                       u32 range_count, u32 seed, char* text, u32 text_size, u64* atomic_count) {
  launch = Launch{blocks, threads, 0};
  tensors.clear();
  for (u32 i = 0; i < range_count; ++i)
    tensors.push_back(Tensor{ranges[i], vector<u32>(ranges[i].written ? ranges[i].end - ranges[i].begin : 0, NOBODY)});
  faults.clear();
  fault_count = 0;
  atomics = 0;
  std::mt19937 random(seed);
  vector<u32> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  for (u32 block : order) {
    launch.block = block;
    Block(*kernel, parameters, random).run();
  }
  snprintf(text, text_size, "%s", faults.c_str());
  *atomic_count = atomics;
  return fault_count;
}
