// The baseline of scripts/gpu_check.py: deformable attention with the algorithm of Deformable DETR's operator of 2020,
// reimplemented from the paper's equation 3. Everything is float32. One thread computes one channel of one head of one
// query: it computes the corners of every sample itself and reads four values of 4 bytes for each sample. In the
// backward pass a block has one thread per channel of a head; they sum the gradients of a sample's location and weight
// in shared memory.
//
// value (N, S, M, D), shapes (L, 2) as (height, width), starts (L), locations (N, Lq, M, L, P, 2) as (x, y) in [0, 1],
// weights (N, Lq, M, L, P), output and grad_output (N, Lq, M * D); grad_value is zeroed by the caller.

using int64 = long long;

// The interpolation weights of a sample and its four corners; a corner outside the level is -1.
struct Sample {
  float low_y, low_x, high_y, high_x;  // weights of the upper row, left column, lower row and right column
  int64 corner[4];                     // pixel of the image: upper left, upper right, lower left, lower right
};

__device__ Sample sample_at(const float* locations, const int64* shapes, const int64* starts, int64 level) {
  int height = int(shapes[2 * level]), width = int(shapes[2 * level + 1]);
  float x = locations[0] * width - 0.5f, y = locations[1] * height - 0.5f;
  Sample found{0.0f, 0.0f, 0.0f, 0.0f, {-1, -1, -1, -1}};
  if (!(y > -1.0f && x > -1.0f && y < height && x < width)) return found;
  int top = int(floorf(y)), left = int(floorf(x));
  found.high_y = y - top;
  found.high_x = x - left;
  found.low_y = 1.0f - found.high_y;
  found.low_x = 1.0f - found.high_x;
  for (int k = 0; k < 4; ++k) {
    int line = top + k / 2, column = left + k % 2;
    if (line >= 0 && column >= 0 && line < height && column < width)
      found.corner[k] = starts[level] + int64(line) * width + column;
  }
  return found;
}

extern "C" __global__ void deform_attn_2020_forward(
    const float* __restrict__ value, const int64* __restrict__ shapes, const int64* __restrict__ starts,
    const float* __restrict__ locations, const float* __restrict__ weights, float* __restrict__ output, int64 count,
    int64 pixels, int64 heads, int64 channels, int64 levels, int64 queries, int64 points) {
  int64 index = int64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= count) return;
  int64 channel = index % channels, place = index / channels;  // place: image, query, head
  int64 head = place % heads, image = place / heads / queries;
  const float* from = value + (image * pixels * heads + head) * channels + channel;
  float sum = 0.0f;
  for (int64 level = 0; level < levels; ++level)
    for (int64 point = 0; point < points; ++point) {
      int64 at = (place * levels + level) * points + point;
      Sample sample = sample_at(locations + 2 * at, shapes, starts, level);
      float corner[4];
      for (int k = 0; k < 4; ++k)
        corner[k] = sample.corner[k] >= 0 ? from[sample.corner[k] * heads * channels] : 0.0f;
      float upper = sample.low_x * corner[0] + sample.high_x * corner[1];
      float lower = sample.low_x * corner[2] + sample.high_x * corner[3];
      sum += weights[at] * (sample.low_y * upper + sample.high_y * lower);
    }
  output[index] = sum;
}

// One block for each image, query and head, with one thread for each channel: a power of two, at most 1,024.
extern "C" __global__ void deform_attn_2020_backward(
    const float* __restrict__ grad_output, const float* __restrict__ value, const int64* __restrict__ shapes,
    const int64* __restrict__ starts, const float* __restrict__ locations, const float* __restrict__ weights,
    float* __restrict__ grad_value, float* __restrict__ grad_locations, float* __restrict__ grad_weights, int64 count,
    int64 pixels, int64 heads, int64 channels, int64 levels, int64 queries, int64 points) {
  __shared__ float shared[3][1024];
  int64 place = blockIdx.x, channel = threadIdx.x;
  int64 head = place % heads, image = place / heads / queries;
  int64 first = (image * pixels * heads + head) * channels + channel;
  float above = grad_output[place * channels + channel];
  for (int64 level = 0; level < levels; ++level)
    for (int64 point = 0; point < points; ++point) {
      int64 at = (place * levels + level) * points + point;
      Sample sample = sample_at(locations + 2 * at, shapes, starts, level);
      float line[2] = {sample.low_y, sample.high_y}, column[2] = {sample.low_x, sample.high_x}, corner[4];
      for (int k = 0; k < 4; ++k) {
        corner[k] = 0.0f;
        if (sample.corner[k] >= 0) {
          int64 element = first + sample.corner[k] * heads * channels;
          corner[k] = value[element];
          atomicAdd(grad_value + element, above * weights[at] * line[k / 2] * column[k % 2]);
        }
      }
      float upper = sample.low_x * corner[0] + sample.high_x * corner[1];
      float lower = sample.low_x * corner[2] + sample.high_x * corner[3];
      float left = sample.low_y * corner[0] + sample.high_y * corner[2];
      float right = sample.low_y * corner[1] + sample.high_y * corner[3];
      shared[0][threadIdx.x] = above * weights[at] * float(int(shapes[2 * level + 1])) * (right - left);
      shared[1][threadIdx.x] = above * weights[at] * float(int(shapes[2 * level])) * (lower - upper);
      shared[2][threadIdx.x] = above * (sample.low_y * upper + sample.high_y * lower);
      __syncthreads();
      for (int half = int(channels) / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
          for (int k = 0; k < 3; ++k) shared[k][threadIdx.x] += shared[k][threadIdx.x + half];
        __syncthreads();
      }
      if (threadIdx.x == 0) {
        grad_locations[2 * at] = shared[0][0];
        grad_locations[2 * at + 1] = shared[1][0];
        grad_weights[at] = shared[2][0];
      }
      __syncthreads();
    }
}
