// Multi-scale deformable attention, forward and backward (Deformable DETR, equation 3).
//
// Compiled by NVRTC for one shape at a time: element types, channels, levels, points and the thread layout are macros
// that build.py defines, so every loop below has a length known to the compiler and no header is included.
//
// A block works for one head of one image, on a run of neighbouring queries, whose samples share cache lines. A warp
// serves 32 / LANES queries. It first works out, once per sampled point, which pixel the point's four corners start at
// and how much each corner weighs, and leaves that in shared memory; then LANES threads per query read VECTOR channels
// each (16 bytes where the channels allow) from the four corners and add them up in float32.
//
// With FUSED the softmax over a query's samples and the arithmetic of reference points are done here too, so that
// neither weights nor locations are ever written to memory: `locations` are then offsets in pixels of their level from
// the query's own point in `centres`, and `weights` are logits. Without it `centres` is not read.
//
// Corners: the 2x2 block of pixels that is read always lies inside its level. Where a point is beside the border the
// block is moved inwards and the weights move with it, so all four addresses are valid and no load needs a branch.

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
  // round to nearest even by hand: sm_75 has no instruction for it
  unsigned bits = __float_as_uint(x);
  unsigned rounded = x != x ? 0x7fffu << 16 : bits + 0x7fffu + ((bits >> 16) & 1u);
  return bfloat_bits{(unsigned short)(rounded >> 16)};
}

typedef VALUE_TYPE value_t;  // stored type of value, output and their gradients
typedef POINT_TYPE point_t;  // stored type of locations, weights and their gradients

constexpr int SAMPLES = LEVELS * POINTS;               // per query and head
constexpr int QUERIES = 32 / LANES;                    // per warp
constexpr int STEP = LANES * VECTOR;                   // channels that the lanes of a query cover at once
constexpr int STEPS = (CHANNELS + STEP - 1) / STEP;
#define NOT_A_NUMBER __int_as_float(0x7fffffff)

struct alignas(sizeof(value_t) * VECTOR) Vector { value_t item[VECTOR]; };
struct alignas(sizeof(point_t) * 2) Location { point_t x, y; };
struct alignas(8) Centre { float x, y; };
static_assert(sizeof(Vector) <= 16 && CHANNELS % VECTOR == 0 && 32 % LANES == 0, "thread layout");

struct Level { int height, width, start; };

// What a warp remembers of its samples.
struct Samples {
  float4 weight[QUERIES * SAMPLES];  // corners (line, column): near near, near far, far near, far far
  int first[QUERIES * SAMPLES];      // element where the near near corner starts, or -1 where nothing is sampled
#if FUSED
  float attention[QUERIES * SAMPLES];  // softmax of the logits
#endif
};

// Two neighbouring pixels along one axis, the weights of both, and the weights' derivatives by the position.
struct Axis {
  int near;
  float near_weight, far_weight, near_slope, far_slope;
  bool inside;
};

__device__ __forceinline__ Axis place(float location, int size) {
  Axis axis;
  // rounded after each step, as PyTorch does, so that a point on a pixel's centre falls to the same side here
  float position = __fsub_rn(__fmul_rn(location, float(size)), 0.5f);
  axis.inside = size > 0 && !(position < -1.0f || position >= float(size));  // true for not-a-number, which must show
  float low = floorf(position), fraction = position - low;
  int wanted = int(low);
  axis.near = max(0, min(wanted, size - 2));
  bool before = wanted < axis.near, behind = wanted > axis.near;  // the 2x2 block had to move
  axis.near_weight = behind ? 0.0f : before ? fraction : 1.0f - fraction;
  axis.near_slope = behind ? 0.0f : before ? 1.0f : -1.0f;
  axis.far_weight = before ? 0.0f : behind ? 1.0f - fraction : fraction;
  axis.far_slope = before ? 0.0f : behind ? -1.0f : 1.0f;
  if (size == 1) {  // the only pixel is near, or beyond the position
    axis.near_weight = wanted < 0 ? fraction : 1.0f - fraction;
    axis.near_slope = wanted < 0 ? 1.0f : -1.0f;
    axis.far_weight = axis.far_slope = 0.0f;
  }
  return axis;
}

// Read the levels' sizes; false where they do not add up to the pixels of value, and then nothing may be read.
__device__ __forceinline__ bool read_levels(const int64* shapes, int64 pixels, Level* levels) {
  int64 start = 0;
  bool sound = true;
#pragma unroll
  for (int level = 0; level < LEVELS; ++level) {
    int64 height = shapes[2 * level], width = shapes[2 * level + 1];
    sound = sound && height >= 0 && width >= 0 && height <= pixels && width <= pixels;
    if (threadIdx.x == level) levels[level] = Level{int(height), int(width), int(start)};
    start += height * width;
  }
  __syncthreads();
  return sound && start == pixels;
}

// Which queries of which head of which image this warp serves.
struct Place {
  int64 image, query;  // the warp's first query
  int head;
};

__device__ __forceinline__ Place locate(int64 heads, int64 tiles) {
  int64 block = blockIdx.x;
  int64 tile = block % tiles, rest = block / tiles;
  return Place{rest / heads, (tile * WARPS + threadIdx.x / 32) * QUERIES, int(rest % heads)};
}

// Index of the first sample of a query among all samples.
__device__ __forceinline__ int64 first_sample(const Place& at, int64 query, int64 queries, int64 heads) {
  return ((at.image * queries + query) * heads + at.head) * SAMPLES;
}

#if FUSED
constexpr int SHARE = (SAMPLES + LANES - 1) / LANES;  // samples that each lane of a query takes
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

// Softmax over the samples of each query of this warp; the lanes of a query share them.
__device__ __forceinline__ void soften(
    const Place& at, const point_t* __restrict__ logits, int64 queries, int64 heads, Samples& samples) {
  int lane = threadIdx.x % LANES, mine = threadIdx.x % 32 / LANES;
  int64 query = at.query + mine, index = first_sample(at, query, queries, heads);
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
    if (sample < SAMPLES) samples.attention[mine * SAMPLES + sample] = power[k] / sum;
  }
  __syncwarp();
}

// From gradients of the softmax's results, left in weight[i].x, to those of the logits.
__device__ __forceinline__ void soften_backward(
    const Place& at, point_t* __restrict__ grad_logits, int64 queries, int64 heads, const Samples& samples) {
  int lane = threadIdx.x % LANES, mine = threadIdx.x % 32 / LANES;
  int64 query = at.query + mine, index = first_sample(at, query, queries, heads);
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < SHARE; ++k) {
    int sample = k * LANES + lane, i = mine * SAMPLES + sample;
    if (sample < SAMPLES) sum = fmaf(samples.attention[i], samples.weight[i].x, sum);
  }
  sum = sum_of_lanes(sum);
#pragma unroll
  for (int k = 0; k < SHARE; ++k) {
    int sample = k * LANES + lane, i = mine * SAMPLES + sample;
    if (sample < SAMPLES && query < queries)
      grad_logits[index + sample] = narrow<point_t>(samples.attention[i] * (samples.weight[i].x - sum));
  }
}
#endif

// Attention weight of sample i of the warp, sample `index` of all.
__device__ __forceinline__ float attention(
    const point_t* __restrict__ weights, int64 index, const Samples& samples, int i) {
#if FUSED
  return samples.attention[i];
#else
  return widen(weights[index]);
#endif
}

// A coordinate of a sample in [0, 1], rounded after each step, as PyTorch does.
__device__ __forceinline__ float coordinate(point_t stored, float centre, int size) {
#if FUSED
  return __fadd_rn(centre, __fdiv_rn(widen(stored), float(size)));
#else
  return widen(stored);
#endif
}

// Both coordinates of sample `index`, which belongs to `query`.
__device__ __forceinline__ void place_sample(
    const Level& level, const point_t* __restrict__ locations, const Centre* __restrict__ centres, int64 index,
    int64 query, Axis* x, Axis* y) {
  Location stored = reinterpret_cast<const Location*>(locations)[index];
  Centre centre = FUSED ? centres[query] : Centre{0.0f, 0.0f};
  *x = place(coordinate(stored.x, centre.x, level.width), level.width);
  *y = place(coordinate(stored.y, centre.y, level.height), level.height);
}

__device__ __forceinline__ void prepare(
    const Place& at, const Level* levels, bool sound, const Centre* __restrict__ centres,
    const point_t* __restrict__ locations, const point_t* __restrict__ weights, int64 queries, int64 heads,
    Samples& samples) {
#if FUSED
  soften(at, weights, queries, heads, samples);
#endif
  for (int i = threadIdx.x % 32; i < QUERIES * SAMPLES; i += 32) {
    int64 query = at.query + i / SAMPLES;
    int sample = i % SAMPLES;
    int first = -1;
    float4 corner = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (sound && query < queries) {
      int64 index = first_sample(at, query, queries, heads) + sample;
      Level level = levels[sample / POINTS];
      Axis x, y;
      place_sample(level, locations, centres, index, query, &x, &y);
      if (x.inside && y.inside) {
        float weight = attention(weights, index, samples, i);
        float near = weight * y.near_weight, far = weight * y.far_weight;
        corner = make_float4(near * x.near_weight, near * x.far_weight, far * x.near_weight, far * x.far_weight);
        first = (level.start + y.near * level.width + x.near) * int(heads) * CHANNELS;
      }
    }
    samples.weight[i] = corner;
    samples.first[i] = first;
  }
  __syncwarp();
}

// Kept as stored until used: half as many registers for 16-bit types.
__device__ __forceinline__ Vector read(const value_t* __restrict__ from, bool wanted) {
  Vector stored;
#pragma unroll
  for (int i = 0; i < VECTOR; ++i) stored.item[i] = value_t{};
  if (wanted) stored = *reinterpret_cast<const Vector*>(from);
  return stored;
}

__device__ __forceinline__ void write(value_t* __restrict__ to, const float (&from)[VECTOR]) {
  Vector stored;
#pragma unroll
  for (int i = 0; i < VECTOR; ++i) stored.item[i] = narrow<value_t>(from[i]);
  // said outright, since the compiler splits the store of a struct; streaming, since nothing here reads it again
  if constexpr (sizeof(Vector) == 16)
    __stcs(reinterpret_cast<uint4*>(to), *reinterpret_cast<const uint4*>(&stored));
  else
    *reinterpret_cast<Vector*>(to) = stored;
}

// value (N, S, M, D), centres (Lq, 2), locations (N, Lq, M, L, P, 2), weights (N, Lq, M, L, P), output (N, Lq, M * D).
// tiles: blocks per head and image. S * M * D must be less than 2^31.
extern "C" __global__ void __launch_bounds__(WARPS * 32) deform_attn_forward(
    const value_t* __restrict__ value, const int64* __restrict__ shapes, const Centre* __restrict__ centres,
    const point_t* __restrict__ locations, const point_t* __restrict__ weights, value_t* __restrict__ output,
    int64 pixels, int64 queries, int64 heads, int64 tiles) {
  __shared__ Samples shared[WARPS];
  __shared__ Level levels[LEVELS];
  Place at = locate(heads, tiles);
  Samples& samples = shared[threadIdx.x / 32];
  bool sound = read_levels(shapes, pixels, levels);
  prepare(at, levels, sound, centres, locations, weights, queries, heads, samples);

  int lane = threadIdx.x % LANES, mine = threadIdx.x % 32 / LANES;
  int64 query = at.query + mine;
  if (query >= queries) return;
  const value_t* image = value + (at.image * pixels * heads + at.head) * CHANNELS;
  int column = int(heads) * CHANNELS;
#pragma unroll
  for (int step = 0; step < STEPS; ++step) {
    int channel = step * STEP + lane * VECTOR;
    if (channel >= CHANNELS) break;
    const value_t* from = image + channel;
    float sum[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) sum[i] = sound ? 0.0f : NOT_A_NUMBER;
#pragma unroll 1
    for (int level = 0; level < LEVELS; ++level) {
      // a level one pixel wide or high has no second column or line; its far weights are zero
      int right = levels[level].width > 1 ? column : 0;
      int down = levels[level].height > 1 ? levels[level].width * column : 0;
#pragma unroll 2
      for (int point = 0; point < POINTS; ++point) {
        int i = mine * SAMPLES + level * POINTS + point;
        int first = samples.first[i];
        float4 weight = samples.weight[i];
        Vector near_near = read(from + first, first >= 0), near_far = read(from + first + right, first >= 0);
        const value_t* below = from + first + down;
        Vector far_near = read(below, first >= 0), far_far = read(below + right, first >= 0);
#pragma unroll
        for (int c = 0; c < VECTOR; ++c) {
          sum[c] = fmaf(weight.x, widen(near_near.item[c]), sum[c]);
          sum[c] = fmaf(weight.y, widen(near_far.item[c]), sum[c]);
          sum[c] = fmaf(weight.z, widen(far_near.item[c]), sum[c]);
          sum[c] = fmaf(weight.w, widen(far_far.item[c]), sum[c]);
        }
      }
    }
    write(output + ((at.image * queries + query) * heads + at.head) * CHANNELS + channel, sum);
  }
}

// Sum each of the four over the LANES threads of a query and store them at `to`. Threads hand over half of what they
// hold at each step, so four sums over eight lanes take four shuffles instead of twelve.
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
    __syncwarp();  // every lane has read the weights that are overwritten here
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

// Add weight * grad to one corner of the float32 gradient of value.
__device__ __forceinline__ void add(float* to, float weight, const float (&grad)[VECTOR]) {
  if (weight == 0.0f) return;
#if __CUDA_ARCH__ >= 900 && VECTOR % 4 == 0  // four sums in one transaction
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

// grad_output as output; grad_value (N, S, M, D) is float32, zeroed by the caller, and is added to by atomics, so its
// last bits depend on their order. Each corner's dot product with grad_output is found first; the gradients of
// location and weight follow from the four dot products, once per sample. With FUSED those of offset and logit follow, and
// centres are constants.
extern "C" __global__ void __launch_bounds__(WARPS * 32) deform_attn_backward(
    const value_t* __restrict__ grad_output, const value_t* __restrict__ value, const int64* __restrict__ shapes,
    const Centre* __restrict__ centres, const point_t* __restrict__ locations, const point_t* __restrict__ weights,
    float* __restrict__ grad_value, point_t* __restrict__ grad_locations, point_t* __restrict__ grad_weights,
    int64 pixels, int64 queries, int64 heads, int64 tiles) {
  __shared__ Samples shared[WARPS];
  __shared__ Level levels[LEVELS];
  Place at = locate(heads, tiles);
  Samples& samples = shared[threadIdx.x / 32];
  bool sound = read_levels(shapes, pixels, levels);
  prepare(at, levels, sound, centres, locations, weights, queries, heads, samples);

  int lane = threadIdx.x % LANES, mine = threadIdx.x % 32 / LANES;
  int64 query = at.query + mine;
  int64 image = (at.image * pixels * heads + at.head) * CHANNELS;
  int column = int(heads) * CHANNELS;
  float grad[STEPS][VECTOR];
#pragma unroll
  for (int step = 0; step < STEPS; ++step) {
    int channel = step * STEP + lane * VECTOR;
    int64 index = ((at.image * queries + query) * heads + at.head) * CHANNELS + channel;
    Vector stored = read(grad_output + index, query < queries && channel < CHANNELS);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) grad[step][i] = widen(stored.item[i]);
  }
#pragma unroll 1
  for (int level = 0; level < LEVELS; ++level) {
    int right = levels[level].width > 1 ? column : 0;
    int down = levels[level].height > 1 ? levels[level].width * column : 0;
#pragma unroll 1
    for (int point = 0; point < POINTS; ++point) {
      int i = mine * SAMPLES + level * POINTS + point;
      int first = samples.first[i];
      float4 weight = samples.weight[i];
      float4 dot = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
      for (int step = 0; step < STEPS; ++step) {
        int channel = step * STEP + lane * VECTOR;
        bool wanted = first >= 0 && channel < CHANNELS;
        const value_t* from = value + image + channel + first;
        Vector near_near = read(from, wanted), near_far = read(from + right, wanted);
        Vector far_near = read(from + down, wanted), far_far = read(from + down + right, wanted);
        if (wanted) {
          float* to = grad_value + image + channel + first;
          add(to, weight.x, grad[step]);
          add(to + right, weight.y, grad[step]);
          add(to + down, weight.z, grad[step]);
          add(to + down + right, weight.w, grad[step]);
        }
#pragma unroll
        for (int c = 0; c < VECTOR; ++c) {
          dot.x += grad[step][c] * widen(near_near.item[c]);
          dot.y += grad[step][c] * widen(near_far.item[c]);
          dot.z += grad[step][c] * widen(far_near.item[c]);
          dot.w += grad[step][c] * widen(far_far.item[c]);
        }
      }
      sum_over_lanes(dot, lane, &samples.weight[i]);
    }
  }
  __syncwarp();
  for (int i = threadIdx.x % 32; i < QUERIES * SAMPLES; i += 32) {
    int64 wanted = at.query + i / SAMPLES;
    int sample = i % SAMPLES;
    if (wanted >= queries) break;
    int64 index = first_sample(at, wanted, queries, heads) + sample;
    Level level = levels[sample / POINTS];
    Axis x, y;
    place_sample(level, locations, centres, index, wanted, &x, &y);
    float weight = attention(weights, index, samples, i);
    float4 dot = samples.weight[i];
    bool used = samples.first[i] >= 0;
    float near_line = dot.x * x.near_weight + dot.y * x.far_weight;
    float far_line = dot.z * x.near_weight + dot.w * x.far_weight;
    float near_column = dot.x * y.near_weight + dot.z * y.far_weight;
    float far_column = dot.y * y.near_weight + dot.w * y.far_weight;
    float across = FUSED ? 1.0f : float(level.width), down = FUSED ? 1.0f : float(level.height);  // pixels per unit
    float by_x = weight * across * (near_column * x.near_slope + far_column * x.far_slope);
    float by_y = weight * down * (near_line * y.near_slope + far_line * y.far_slope);
    float by_weight = near_line * y.near_weight + far_line * y.far_weight;
    float otherwise = sound ? 0.0f : NOT_A_NUMBER;
    Location slope{narrow<point_t>(used ? by_x : otherwise), narrow<point_t>(used ? by_y : otherwise)};
    reinterpret_cast<Location*>(grad_locations)[index] = slope;
#if FUSED
    samples.weight[i].x = used ? by_weight : otherwise;
#else
    grad_weights[index] = narrow<point_t>(used ? by_weight : otherwise);
#endif
  }
#if FUSED
  __syncwarp();
  soften_backward(at, grad_weights, queries, heads, samples);
#endif
}
