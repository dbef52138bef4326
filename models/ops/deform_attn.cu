// Multi-scale deformable attention, forward and backward (Deformable DETR, equation 3).
//
// NVRTC compiles this file for one configuration at a time: element types, channels, levels, points and the thread
// layout are macros that build.py defines. So the compiler knows the length of every loop, and no header is included.
//
// A block processes neighbouring queries of one head of one image, because their samples share cache lines. If the
// queries are the pixels of the levels, as in an encoder, blocks process them in strips of LINES rows, column by
// column, so that a block's queries lie in a rectangle. A warp processes 32 / LANES queries at a time. First it
// computes the positions and weights of the four corners of each sampled point, once per point, and stores them in
// shared memory. Then LANES threads per query read VECTOR channels each (16 bytes if the number of channels allows it)
// from the four corners and accumulate them in float32.
//
// With FUSED the kernel also computes the softmax over a query's samples and adds the reference points, so neither
// weights nor locations are written to global memory: `locations` are then offsets, in pixels of their level, from the
// query's point in `centres`, and `weights` are logits. Without FUSED `centres` is not read.
//
// Corners: as in the PyTorch reference, a corner outside its level is moved to the nearest pixel and has weight zero.
// So all four addresses are valid, no load needs a branch, and a NaN pixel affects the same results.

using int64 = long long;

struct half_bits { unsigned short bits; };
struct bfloat_bits { unsigned short bits; };

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(half_bits x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
__device__ __forceinline__ float widen(bfloat_bits x) { return __uint_as_float(unsigned(x.bits) << 16); }

template <typename T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ half_bits narrow<half_bits>(float x) {
  half_bits y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
template <> __device__ __forceinline__ bfloat_bits narrow<bfloat_bits>(float x) {
  // round to nearest even in integers: sm_75 has no instruction for it
  unsigned bits = __float_as_uint(x);
  unsigned rounded = x != x ? 0x7fffu << 16 : bits + 0x7fffu + ((bits >> 16) & 1u);
  return bfloat_bits{(unsigned short)(rounded >> 16)};
}

typedef VALUE_TYPE value_t;  // stored type of value
typedef POINT_TYPE point_t;  // stored type of locations, weights, output, and of the gradients of all three

constexpr int SAMPLES = LEVELS * POINTS;               // per query and head
constexpr int QUERIES = 32 / LANES;                    // per warp
constexpr int STEP = LANES * VECTOR;                   // channels that the lanes of a query process at once
constexpr int STEPS = (CHANNELS + STEP - 1) / STEP;
#define NOT_A_NUMBER __int_as_float(0x7fffffff)

struct alignas(sizeof(value_t) * VECTOR) Vector { value_t item[VECTOR]; };
struct alignas(sizeof(point_t) * 2) Location { point_t x, y; };
struct alignas(8) Centre { float x, y; };
static_assert(sizeof(Vector) <= 16 && CHANNELS % VECTOR == 0 && 32 % LANES == 0, "thread layout");

struct Level { int height, width, start; };

// Offsets of a sample's corners, in elements from the start of its image and head, and its attention weight.
struct alignas(16) Corners { int first, right, down; float attention; };

// The samples of a warp's queries, in shared memory.
struct Samples {
  float4 weight[QUERIES * SAMPLES];  // corners (line, column): near near, near far, far near, far far
  Corners corners[QUERIES * SAMPLES];
  int64 query[QUERIES];  // at least the number of queries if there is none
};

// The two pixels around a position along one axis, clamped to the level; their weights, zero for a pixel outside the
// level; and the derivatives of the weights with respect to the position.
struct Axis {
  int near, far;
  float near_weight, far_weight, near_slope, far_slope;
};

__device__ __forceinline__ Axis place(float location, int size) {
  Axis axis;
  float bounded = location < -2.0f ? -2.0f : location > 3.0f ? 3.0f : location;  // finite, and still outside the level
  // rounded after each step as in PyTorch, so that a point on a pixel's centre gets the same two pixels
  float position = __fsub_rn(__fmul_rn(bounded, float(size)), 0.5f);
  float low = floorf(position), fraction = position - low;
  int wanted = position == position ? int(low) : -2;  // NaN counts as outside; its weights stay NaN
  axis.near = max(0, min(wanted, size - 1));
  axis.far = max(0, min(wanted + 1, size - 1));
  float near_inside = axis.near == wanted ? 1.0f : 0.0f, far_inside = axis.far == wanted + 1 ? 1.0f : 0.0f;
  axis.near_weight = (1.0f - fraction) * near_inside;
  axis.far_weight = fraction * far_inside;
  axis.near_slope = -near_inside;
  axis.far_slope = far_inside;
  return axis;
}

// Read the sizes of the levels. Returns false if one is empty or they do not add up to the pixels of `value`; then
// `value` must not be read.
__device__ __forceinline__ bool read_levels(const int64* shapes, int64 pixels, Level* levels) {
  int64 start = 0;
  bool sound = true;
#pragma unroll
  for (int level = 0; level < LEVELS; ++level) {
    int64 height = shapes[2 * level], width = shapes[2 * level + 1];
    sound = sound && height >= 1 && width >= 1 && height <= pixels && width <= pixels;
    if (threadIdx.x == level) levels[level] = Level{int(height), int(width), int(start)};
    start += height * width;
  }
  __syncthreads();
  return sound && start == pixels;
}

// The image, the head and the queries that this block processes.
struct Place {
  int64 image, first;  // first: the index of the block's first query in the order of `query_at`
  int rounds;          // number of rounds; the block processes WARPS * QUERIES queries in each
  int head;
};

__device__ __forceinline__ Place locate(int64 queries, int64 heads, int64 tiles) {
  constexpr int64 TAKEN = WARPS * QUERIES;
  int64 block = blockIdx.x, tile = block % tiles, rest = block / tiles;
  int rounds = int((queries + tiles * TAKEN - 1) / (tiles * TAKEN));
  return Place{rest / heads, tile * rounds * TAKEN, rounds, int(rest % heads)};
}

// The query at an index of the order in which blocks process them.
__device__ __forceinline__ int64 query_at(int64 place, const Level* levels, bool in_strips) {
  if (!in_strips) return place;
  int level = 0;
#pragma unroll
  for (int k = 1; k < LEVELS; ++k) level += place >= levels[k].start;
  int height = levels[level].height, width = levels[level].width, start = levels[level].start;
  int within = int(place) - start, strip = within / (LINES * width), rest = within - strip * (LINES * width);
  int lines = min(LINES, height - strip * LINES), column = rest / lines;
  return start + (strip * LINES + rest - column * lines) * width + column;
}

// Store the warp's queries of this round in shared memory; returns the query of the calling thread.
__device__ __forceinline__ int64 take_queries(
    const Place& at, int round, const Level* levels, int64 queries, bool in_strips, Samples& samples) {
  int warp = threadIdx.x / 32, mine = threadIdx.x % 32 / LANES;
  int64 place = at.first + (round * WARPS + warp) * QUERIES + mine;
  int64 query = place < queries ? query_at(place, levels, in_strips) : queries;
  if (threadIdx.x % LANES == 0) samples.query[mine] = query;
  __syncwarp();  // also: every lane has read the samples of the previous round
  return query;
}

// Index of the first sample of a query and head among all samples.
__device__ __forceinline__ int64 first_sample(const Place& at, int64 query, int64 queries, int64 heads) {
  return ((at.image * queries + query) * heads + at.head) * SAMPLES;
}

// Index of the first channel of a query and head among all elements of the output.
__device__ __forceinline__ int64 first_channel(const Place& at, int64 query, int64 queries, int64 heads) {
  return ((at.image * queries + query) * heads + at.head) * CHANNELS;
}

#if FUSED
constexpr int SHARE = (SAMPLES + LANES - 1) / LANES;  // samples per lane of a query
#define MINUS_INFINITY __int_as_float(0xff800000)

__device__ __forceinline__ float largest_of_lanes(float x) {
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

__device__ __forceinline__ float sum_of_lanes(float x) {
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

// Softmax over the samples of each query of this warp, divided among the lanes of the query.
__device__ __forceinline__ void soften(
    const Place& at, const point_t* __restrict__ logits, int64 query, int64 queries, int64 heads, Samples& samples) {
  int lane = threadIdx.x % LANES, mine = threadIdx.x % 32 / LANES;
  int64 index = first_sample(at, query, queries, heads);
  float power[SHARE], largest = MINUS_INFINITY, sum = 0.0f;
#pragma unroll
  for (int k = 0; k < SHARE; ++k) {
    int sample = k * LANES + lane;
    power[k] = sample >= SAMPLES ? MINUS_INFINITY : query < queries ? widen(logits[index + sample]) : 0.0f;
    largest = fmaxf(largest, power[k]);
  }
  largest = largest_of_lanes(largest);
#pragma unroll
  for (int k = 0; k < SHARE; ++k) {
    power[k] = expf(power[k] - largest);
    sum += power[k];
  }
  sum = sum_of_lanes(sum);
#pragma unroll
  for (int k = 0; k < SHARE; ++k) {
    int sample = k * LANES + lane;
    if (sample < SAMPLES) samples.corners[mine * SAMPLES + sample].attention = power[k] / sum;
  }
  __syncwarp();
}

// Compute the gradients of the logits from those of the softmax's results, which are in weight[i].x.
__device__ __forceinline__ void soften_backward(
    const Place& at, point_t* __restrict__ grad_logits, int64 query, int64 queries, int64 heads,
    const Samples& samples) {
  int lane = threadIdx.x % LANES, mine = threadIdx.x % 32 / LANES;
  int64 index = first_sample(at, query, queries, heads);
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < SHARE; ++k) {
    int sample = k * LANES + lane, i = mine * SAMPLES + sample;
    if (sample < SAMPLES) sum = fmaf(samples.corners[i].attention, samples.weight[i].x, sum);
  }
  sum = sum_of_lanes(sum);
#pragma unroll
  for (int k = 0; k < SHARE; ++k) {
    int sample = k * LANES + lane, i = mine * SAMPLES + sample;
    if (sample < SAMPLES && query < queries)
      grad_logits[index + sample] = narrow<point_t>(samples.corners[i].attention * (samples.weight[i].x - sum));
  }
}
#endif

// A coordinate of a sample, in [0, 1] inside the level, rounded after each step as in PyTorch.
__device__ __forceinline__ float coordinate(point_t stored, float centre, int size) {
#if FUSED
  return __fadd_rn(centre, __fdiv_rn(widen(stored), float(size)));
#else
  return widen(stored);
#endif
}

// The pixels and weights along both axes of sample `index`, which belongs to `query`.
__device__ __forceinline__ void place_sample(
    const Level& level, const point_t* __restrict__ locations, const Centre* __restrict__ centres, int64 index,
    int64 query, Axis* x, Axis* y) {
  Location stored = reinterpret_cast<const Location*>(locations)[index];
  Centre centre = FUSED ? centres[query] : Centre{0.0f, 0.0f};
  *x = place(coordinate(stored.x, centre.x, level.width), level.width);
  *y = place(coordinate(stored.y, centre.y, level.height), level.height);
}

// Compute the corners and weights of the samples of the warp's queries. Without a query the corners are the image's
// first pixel, with weight zero.
__device__ __forceinline__ void prepare(
    const Place& at, const Level* levels, bool sound, const Centre* __restrict__ centres, const point_t* __restrict__ locations,
    const point_t* __restrict__ weights, int64 query, int64 queries, int64 heads, Samples& samples) {
#if FUSED
  soften(at, weights, query, queries, heads, samples);
#endif
  for (int i = threadIdx.x % 32; i < QUERIES * SAMPLES; i += 32) {
    int64 wanted = samples.query[i / SAMPLES];
    int sample = i % SAMPLES;
#if FUSED
    Corners corners{0, 0, 0, samples.corners[i].attention};
#else
    Corners corners{0, 0, 0, 0.0f};
#endif
    float4 weight = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (sound && wanted < queries) {
      int64 index = first_sample(at, wanted, queries, heads) + sample;
      Level level = levels[sample / POINTS];
      Axis x, y;
      place_sample(level, locations, centres, index, wanted, &x, &y);
      int column = int(heads) * CHANNELS, line = level.width * column;
      corners.first = level.start * column + y.near * line + x.near * column;
      corners.right = (x.far - x.near) * column;
      corners.down = (y.far - y.near) * line;
#if !FUSED
      corners.attention = widen(weights[index]);
#endif
      float near = corners.attention * y.near_weight, far = corners.attention * y.far_weight;
      weight = make_float4(near * x.near_weight, near * x.far_weight, far * x.near_weight, far * x.far_weight);
    }
    samples.weight[i] = weight;
    samples.corners[i] = corners;
  }
  __syncwarp();
}

// VECTOR channels in the stored type: 16-bit types take half as many registers until they are used.
__device__ __forceinline__ Vector read(const value_t* __restrict__ from) {
  return *reinterpret_cast<const Vector*>(from);
}

// Channel c of a vector; c is known to the compiler.
template <typename T> __device__ __forceinline__ float channel_of(const Vector& stored, const T*, int c) {
  return widen(stored.item[c]);
}
// bfloat16: one instruction per channel, from the 32-bit word of two channels
__device__ __forceinline__ float channel_of(const Vector& stored, const bfloat_bits*, int c) {
  if constexpr (VECTOR % 2 == 0) {
    unsigned word = reinterpret_cast<const unsigned*>(&stored)[c / 2];
    return __uint_as_float(c % 2 ? word & 0xffff0000u : word << 16);
  } else {
    return widen(stored.item[c]);
  }
}
__device__ __forceinline__ float channel_of(const Vector& stored, int c) {
  return channel_of(stored, stored.item, c);
}

constexpr int CHUNK = VECTOR * sizeof(point_t) <= 16 ? VECTOR : 16 / sizeof(point_t);  // elements per store
struct alignas(sizeof(point_t) * CHUNK) Chunk { point_t item[CHUNK]; };

__device__ __forceinline__ void write(point_t* __restrict__ to, const float (&from)[VECTOR]) {
#pragma unroll
  for (int first = 0; first < VECTOR; first += CHUNK) {
    Chunk stored;
#pragma unroll
    for (int i = 0; i < CHUNK; ++i) stored.item[i] = narrow<point_t>(from[first + i]);
    // explicit 16-byte store, because the compiler splits the store of a struct; streaming, because the kernel does not
    // read it again
    if constexpr (sizeof(Chunk) == 16)
      __stcs(reinterpret_cast<uint4*>(to + first), *reinterpret_cast<const uint4*>(&stored));
    else
      *reinterpret_cast<Chunk*>(to + first) = stored;
  }
}

// value (N, S, M, D), centres (Lq, 2), locations (N, Lq, M, L, P, 2), weights (N, Lq, M, L, P), output (N, Lq, M * D).
// tiles: blocks per head and image, at least 1. S * M * D must be less than 2^31.
extern "C" __global__ void __launch_bounds__(WARPS * 32) deform_attn_forward(
    const value_t* __restrict__ value, const int64* __restrict__ shapes, const Centre* __restrict__ centres,
    const point_t* __restrict__ locations, const point_t* __restrict__ weights, point_t* __restrict__ output,
    int64 pixels, int64 queries, int64 heads, int64 tiles) {
  __shared__ Samples shared[WARPS];
  __shared__ Level levels[LEVELS];
  Place at = locate(queries, heads, tiles);
  Samples& samples = shared[threadIdx.x / 32];
  bool sound = read_levels(shapes, pixels, levels);
  int lane = threadIdx.x % LANES, mine = threadIdx.x % 32 / LANES;
  const value_t* image = value + (at.image * pixels * heads + at.head) * CHANNELS;
#pragma unroll 1
  for (int round = 0; round < at.rounds; ++round) {
    int64 query = take_queries(at, round, levels, queries, sound && queries == pixels, samples);
    prepare(at, levels, sound, centres, locations, weights, query, queries, heads, samples);
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      int channel = step * STEP + lane * VECTOR;
      if (query >= queries || channel >= CHANNELS) break;
      const value_t* from = image + channel;
      float sum[VECTOR];
#pragma unroll
      for (int c = 0; c < VECTOR; ++c) sum[c] = sound ? 0.0f : NOT_A_NUMBER;
#pragma unroll 2
      for (int sample = 0; sample < (sound ? SAMPLES : 0); ++sample) {
        Corners corners = samples.corners[mine * SAMPLES + sample];
        float4 weight = samples.weight[mine * SAMPLES + sample];
        const value_t *near = from + corners.first, *far = near + corners.down;
        Vector near_near = read(near), near_far = read(near + corners.right);
        Vector far_near = read(far), far_far = read(far + corners.right);
#pragma unroll
        for (int c = 0; c < VECTOR; ++c) {
          sum[c] = fmaf(weight.x, channel_of(near_near, c), sum[c]);
          sum[c] = fmaf(weight.y, channel_of(near_far, c), sum[c]);
          sum[c] = fmaf(weight.z, channel_of(far_near, c), sum[c]);
          sum[c] = fmaf(weight.w, channel_of(far_far, c), sum[c]);
        }
      }
      write(output + first_channel(at, query, queries, heads) + channel, sum);
    }
  }
}

// Sum each of the four values over the LANES threads of a query and store the sums at `to`. In each of the first two
// steps a thread sends half of its values and keeps the others, so eight lanes need four shuffles instead of twelve.
__device__ __forceinline__ void sum_over_lanes(float4 sums, int lane, float4* to) {
  constexpr unsigned ALL = 0xffffffffu;
  if constexpr (LANES >= 4) {
    bool upper = lane & (LANES / 2), odd = lane & (LANES / 4);
    float first = upper ? sums.z : sums.x, second = upper ? sums.w : sums.y;
    first += __shfl_xor_sync(ALL, upper ? sums.x : sums.z, LANES / 2);
    second += __shfl_xor_sync(ALL, upper ? sums.y : sums.w, LANES / 2);
    float sum = odd ? second : first;
    sum += __shfl_xor_sync(ALL, odd ? first : second, LANES / 4);
#pragma unroll
    for (int offset = LANES / 8; offset > 0; offset /= 2) sum += __shfl_xor_sync(ALL, sum, offset);
    __syncwarp();  // every lane has read the weights that the next line overwrites
    if (lane % (LANES / 4) == 0) reinterpret_cast<float*>(to)[2 * upper + odd] = sum;
  } else {
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) {
      sums.x += __shfl_xor_sync(ALL, sums.x, offset);
      sums.y += __shfl_xor_sync(ALL, sums.y, offset);
      sums.z += __shfl_xor_sync(ALL, sums.z, offset);
      sums.w += __shfl_xor_sync(ALL, sums.w, offset);
    }
    __syncwarp();
    if (lane == 0) *to = sums;
  }
}

// Add weight * grad to one corner in the float32 gradient of `value`.
__device__ __forceinline__ void add(float* to, float weight, const float (&grad)[VECTOR]) {
#if __CUDA_ARCH__ >= 900 && VECTOR % 4 == 0  // four additions in one transaction
#pragma unroll
  for (int c = 0; c < VECTOR; c += 4)
    atomicAdd(
        reinterpret_cast<float4*>(to + c),
        make_float4(weight * grad[c], weight * grad[c + 1], weight * grad[c + 2], weight * grad[c + 3]));
#else
#pragma unroll
  for (int c = 0; c < VECTOR; ++c) atomicAdd(to + c, weight * grad[c]);
#endif
}

// grad_output has the shape of output. grad_value (N, S, M, D) is float32 and zeroed by the caller; the kernel adds to
// it with atomics, so its last bits depend on their order. First the dot product of each corner with grad_output is
// computed; the gradients of location and weight follow from the four dot products, once per sample. With FUSED they
// are the gradients of offset and logit, and centres are constants.
extern "C" __global__ void __launch_bounds__(WARPS * 32) deform_attn_backward(
    const point_t* __restrict__ grad_output, const value_t* __restrict__ value, const int64* __restrict__ shapes,
    const Centre* __restrict__ centres, const point_t* __restrict__ locations, const point_t* __restrict__ weights,
    float* __restrict__ grad_value, point_t* __restrict__ grad_locations, point_t* __restrict__ grad_weights,
    int64 pixels, int64 queries, int64 heads, int64 tiles) {
  __shared__ Samples shared[WARPS];
  __shared__ Level levels[LEVELS];
  Place at = locate(queries, heads, tiles);
  Samples& samples = shared[threadIdx.x / 32];
  bool sound = read_levels(shapes, pixels, levels);
  int lane = threadIdx.x % LANES, mine = threadIdx.x % 32 / LANES;
  int64 image = (at.image * pixels * heads + at.head) * CHANNELS;
#pragma unroll 1
  for (int round = 0; round < at.rounds; ++round) {
    int64 query = take_queries(at, round, levels, queries, sound && queries == pixels, samples);
    prepare(at, levels, sound, centres, locations, weights, query, queries, heads, samples);
    float grad[STEPS][VECTOR];
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      int channel = step * STEP + lane * VECTOR;
      bool wanted = query < queries && channel < CHANNELS;
      const point_t* from = grad_output + first_channel(at, query, queries, heads) + channel;
#pragma unroll
      for (int c = 0; c < VECTOR; c += CHUNK) {
        Chunk stored{};
        if (wanted) stored = *reinterpret_cast<const Chunk*>(from + c);
#pragma unroll
        for (int i = 0; i < CHUNK; ++i) grad[step][c + i] = widen(stored.item[i]);
      }
    }
#pragma unroll 1
    for (int sample = 0; sample < (sound ? SAMPLES : 0); ++sample) {
      int i = mine * SAMPLES + sample;
      Corners corners = samples.corners[i];
      float4 weight = samples.weight[i];
      // skip zero weights: all samples outside a level would add zeros to the same few pixels
      bool used = weight.x != 0.0f || weight.y != 0.0f || weight.z != 0.0f || weight.w != 0.0f;
      float4 dot = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
      for (int step = 0; step < STEPS; ++step) {
        int channel = step * STEP + lane * VECTOR;
        if (channel >= CHANNELS) break;
        const value_t* near = value + image + channel + corners.first;
        const value_t* far = near + corners.down;
        Vector near_near = read(near), near_far = read(near + corners.right);
        Vector far_near = read(far), far_far = read(far + corners.right);
        float *to = grad_value + image + channel + corners.first, *below = to + corners.down;
        if (used) {
          add(to, weight.x, grad[step]);
          add(to + corners.right, weight.y, grad[step]);
          add(below, weight.z, grad[step]);
          add(below + corners.right, weight.w, grad[step]);
        }
#pragma unroll
        for (int c = 0; c < VECTOR; ++c) {
          dot.x += grad[step][c] * channel_of(near_near, c);
          dot.y += grad[step][c] * channel_of(near_far, c);
          dot.z += grad[step][c] * channel_of(far_near, c);
          dot.w += grad[step][c] * channel_of(far_far, c);
        }
      }
      sum_over_lanes(dot, lane, &samples.weight[i]);
    }
    __syncwarp();
    for (int i = threadIdx.x % 32; i < QUERIES * SAMPLES; i += 32) {
      int64 wanted = samples.query[i / SAMPLES];
      int sample = i % SAMPLES;
      if (wanted >= queries) continue;
      int64 index = first_sample(at, wanted, queries, heads) + sample;
      float by_x = NOT_A_NUMBER, by_y = NOT_A_NUMBER, by_weight = NOT_A_NUMBER;
      if (sound) {
        Level level = levels[sample / POINTS];
        Axis x, y;
        place_sample(level, locations, centres, index, wanted, &x, &y);
        float4 dot = samples.weight[i];
        float near_line = dot.x * x.near_weight + dot.y * x.far_weight;
        float far_line = dot.z * x.near_weight + dot.w * x.far_weight;
        float near_column = dot.x * y.near_weight + dot.z * y.far_weight;
        float far_column = dot.y * y.near_weight + dot.w * y.far_weight;
        float across = FUSED ? 1.0f : float(level.width), down = FUSED ? 1.0f : float(level.height);  // pixels per unit
        float weight = samples.corners[i].attention;
        by_x = weight * across * (near_column * x.near_slope + far_column * x.far_slope);
        by_y = weight * down * (near_line * y.near_slope + far_line * y.far_slope);
        by_weight = near_line * y.near_weight + far_line * y.far_weight;
      }
      reinterpret_cast<Location*>(grad_locations)[index] = Location{narrow<point_t>(by_x), narrow<point_t>(by_y)};
#if FUSED
      samples.weight[i].x = by_weight;
#else
      grad_weights[index] = narrow<point_t>(by_weight);
#endif
    }
    __syncwarp();
#if FUSED
    soften_backward(at, grad_weights, query, queries, heads, samples);
#endif
  }
}
