// What the C++ that ptx_translator.py writes needs: a thread's state, and the memory that the emulator checks.
#pragma once

#include <cstdint>
#include <cstring>  // and nothing larger: each kernel's compilation reads this

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;

enum class State : u32 { RUNNING, EXITED, AT_WARP_BARRIER, AT_SHUFFLE, AT_BLOCK_BARRIER };

// One thread of a block. A kernel's registers follow it in a struct derived from it.
struct Lane {
  State state;
  u32 at;     // the synchronisation the thread stands at, 0 at the beginning
  u32 line;   // of the entry: the last memory access, branch or synchronisation
  u32 jumps;  // branches taken
  u32 thread;
  u32 mask, value, distance, clamp, result;  // of a shuffle or a warp barrier
};

// One entry of a PTX module.
struct Kernel {
  u32 parameters, shared_bytes, lane_bytes;
  void (*run)(Lane&, const u64* parameters);  // up to the next synchronisation or the end
};

struct Launch {
  u32 blocks, threads, block;
};
extern Launch launch;

void fault(const Lane& lane, const char* what, u64 first = 0, u64 second = 0);

// Checked addresses of `bytes` bytes; where the access is wrong, of bytes that nobody uses.
const u8* load_global(const Lane& lane, u64 address, u32 bytes);
u8* store_global(const Lane& lane, u64 address, u32 bytes);
u8* add_global(const Lane& lane, u64 address, u32 bytes);
const u8* load_shared(const Lane& lane, u64 address, u32 bytes);
u8* store_shared(const Lane& lane, u64 address, u32 bytes);

// False where a thread has branched so often that it will never end.
bool may_jump(Lane& lane);

template <typename T>
T get(const u8* at, int index) {
  T value;
  memcpy(&value, at + index * sizeof(T), sizeof(T));
  return value;
}

template <typename T>
void put(u8* at, int index, T value) {
  memcpy(at + index * sizeof(T), &value, sizeof(T));
}

inline float as_float(u32 bits) { return __builtin_bit_cast(float, bits); }
inline u32 as_bits(float x) { return __builtin_bit_cast(u32, x); }
inline float half_to_float(u16 bits) { return float(__builtin_bit_cast(_Float16, bits)); }
inline u16 float_to_half(float x) { return __builtin_bit_cast(u16, _Float16(x)); }

// fma.rm: rounded towards minus infinity.
inline float fma_down(float a, float b, float c) {
  double exact = __builtin_fma(double(a), double(b), double(c));
  float nearest = float(exact);
  return double(nearest) > exact ? __builtin_nextafterf(nearest, -__builtin_inff()) : nearest;
}

// cvt.rzi.s32.f32: saturates, and not-a-number is 0.
inline s32 float_to_int(float x) {
  if (x != x) return 0;
  return x >= 2147483648.0f ? INT32_MAX : x <= -2147483648.0f ? INT32_MIN : s32(x);
}

inline float saturate(float x) { return x != x || x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x; }

// max.f32 and min.f32: of a number and not-a-number, the number.
inline float larger(float a, float b) { return a != a ? b : b != b || a > b ? a : b; }
inline float smaller(float a, float b) { return a != a ? b : b != b || a < b ? a : b; }

template <typename T>
T divide(const Lane& lane, T a, T b, bool remainder) {
  if (b != 0) return remainder ? a % b : a / b;
  fault(lane, "division by zero");
  return 0;
}

// bfi: `count` low bits of `from` in place of those of `into` that start at bit `start`.
template <typename T>
T insert_bits(T from, T into, u32 start, u32 count) {
  T mask = (count >= sizeof(T) * 8 ? ~T(0) : (T(1) << count) - 1) << start;
  return (into & ~mask) | ((from << start) & mask);
}
