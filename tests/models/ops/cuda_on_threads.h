// Just enough of CUDA to run deform_attn.cu on a CPU: one block at a time, one thread of the host per CUDA thread.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __restrict__
#define __shared__ static
#define __launch_bounds__(threads)

using std::max;
using std::min;

struct float4 { float x, y, z, w; };
struct uint4 { unsigned x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct Index { int x; };
static thread_local Index threadIdx;
static Index blockIdx;

template <typename To, typename From> inline To same_bits(From from) {
  To to;
  static_assert(sizeof to == sizeof from, "bits");
  memcpy(&to, &from, sizeof to);
  return to;
}
inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
inline float __int_as_float(int x) { return same_bits<float>(x); }
inline float half_to_float(unsigned short x) { return float(same_bits<_Float16>(x)); }
inline unsigned short float_to_half(float x) { return same_bits<unsigned short>(_Float16(x)); }
inline float __fmul_rn(float a, float b) { volatile float product = a * b; return product; }
inline float __fsub_rn(float a, float b) { volatile float difference = a - b; return difference; }
inline float __fadd_rn(float a, float b) { volatile float sum = a + b; return sum; }
inline float __fdiv_rn(float a, float b) { volatile float quotient = a / b; return quotient; }

inline void aligned(const void* at, unsigned bytes) { if (reinterpret_cast<uintptr_t>(at) % bytes) abort(); }
inline void __stcs(uint4* to, uint4 from) { aligned(to, 16); memcpy(to, &from, sizeof from); }
inline void atomicAdd(float* to, float x) { std::atomic_ref<float>(*to).fetch_add(x); }
inline void atomicAdd(float4* to, float4 x) {
  aligned(to, 16);
  float* each = reinterpret_cast<float*>(to);
  atomicAdd(each, x.x); atomicAdd(each + 1, x.y); atomicAdd(each + 2, x.z); atomicAdd(each + 3, x.w);
}

static std::barrier<>* block_barrier;
static std::vector<std::unique_ptr<std::barrier<>>> warp_barriers;
static float exchanged[32][32];
inline void __syncthreads() { block_barrier->arrive_and_wait(); }
inline void __syncwarp() { warp_barriers[threadIdx.x / 32]->arrive_and_wait(); }
inline float __shfl_xor_sync(unsigned, float x, int offset) {
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  exchanged[warp][lane] = x;
  __syncwarp();
  float other = exchanged[warp][lane ^ offset];
  __syncwarp();
  return other;
}

template <typename Kernel> void run_blocks(long long grid, int threads, Kernel kernel) {
  for (int block = 0; block < grid; ++block) {
    blockIdx.x = block;
    std::barrier<> all(threads);
    block_barrier = &all;
    warp_barriers.clear();
    for (int warp = 0; warp < threads / 32; ++warp) warp_barriers.emplace_back(new std::barrier<>(32));
    std::vector<std::thread> running;
    for (int thread = 0; thread < threads; ++thread)
      running.emplace_back([=] { threadIdx.x = thread; kernel(); });
    for (auto& thread : running) thread.join();
  }
}
