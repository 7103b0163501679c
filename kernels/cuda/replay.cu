// The replay buffer: rows gathered by index, rows written back, and fresh chains: the CUDA counterpart of replay.rs.
//
// What must hold: of equal indices in a batch the highest position wins, in any order of blocks; an index out of
// range gathers NaN and writes nothing. Draws are the same bits as on a CPU. The weighted sum over a class's images is
// formed in 8 parts of 8 slices each, all fixed, so it differs from the CPU's in rounding, but never with the grid.
//
// Launch:
//   replay_gather_S   grid (any, n), block 256
//   replay_slots      grid ⌈n/256⌉, block 256: slot[i] = index[i] where row i is the one to write, else −1
//   replay_scatter_S  grid (any, n), block 256, with the slots
//   replay_restart_parts  grid (⌈row/128⌉, n, 8), block 256; parts: 8·n·row floats
//   replay_restart        grid (⌈row/1024⌉, n), block 256, with the parts
// Static shared memory only.
#include "philox.cuh"

// Copies of a row's elements, or NaN, by the blocks of one blockIdx.y.
template <typename T> __device__ __forceinline__ void copy_row(const T* from, T* to, long long row)
{
    const int V = Wide<T>::V;
    if (from && row % V == 0) {
        each_run<1>(row / V, [&](long long i, int) {
            Pack<T, V> p;
            p.load(from + i * V);
            p.store(to + i * V);
        });
    } else {
        each_run<1>(row, [&](long long i, int) { to[i] = from ? from[i] : from_float<T>(JEMPP_NAN); });
    }
}

extern "C" __global__ void replay_slots(const int* __restrict__ index, int n, int rows, int* __restrict__ slot)
{
    each_run<1>(n, [&](long long i, int) {
        const int wanted = index[i];
        bool wins = wanted >= 0 && wanted < rows;
        for (int j = (int)i + 1; wins && j < n; j++) {
            wins = index[j] != wanted;
        }
        slot[i] = wins ? wanted : -1;
    });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void replay_gather_##S(const T* buffer, int rows, long long row, const int* index, int n,    \
                                                 T* out)                                                               \
    {                                                                                                                  \
        for (int i = blockIdx.y; i < n; i += gridDim.y) {                                                              \
            const int from = index[i];                                                                                 \
            copy_row<T>(from >= 0 && from < rows ? buffer + from * row : 0, out + i * row, row);                       \
        }                                                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void replay_scatter_##S(const T* x, long long row, const int* slot, int n, T* buffer)        \
    {                                                                                                                  \
        for (int i = blockIdx.y; i < n; i += gridDim.y) {                                                              \
            if (slot[i] >= 0) {                                                                                        \
                copy_row<T>(x + i * row, buffer + slot[i] * row, row);                                                 \
            }                                                                                                          \
        }                                                                                                              \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS

// ---- Fresh chains ------------------------------------------------------------------------------------------------

#define QUADS 32                     // quads of pixels a block works on
#define SLICES (JEMPP_BLOCK / QUADS) // threads among which a quad's images are divided
#define WEIGHTS JEMPP_BLOCK          // images whose weights are drawn at once
#define PARTS 8                      // blocks among which the images of a chain are divided

__device__ __forceinline__ float byte_value(unsigned u) { return (float)u * (2.0f / 255.0f) - 1.0f; }

// Whether class c has images among the `count` images: those from first to end.
__device__ __forceinline__ bool images_of(int c, const int* __restrict__ offsets, int classes, int count, int& first,
                                          int& end)
{
    if (c < 0 || c >= classes) {
        return false;
    }
    first = offsets[c];
    end = offsets[c + 1];
    return first >= 0 && first <= end && end <= count;
}

// Σ_j z_j (x_j − μ) over one part of the images first..end of the class, for the block's pixels of one chain: every
// PARTSth run of WEIGHTS images. Every thread of the block calls it.
__device__ __forceinline__ void weighted_sum(const unsigned char* __restrict__ images, int first, int end,
                                             const float* __restrict__ mean, const RandomSequence& sequence,
                                             unsigned long long base, int row, float* __restrict__ out)
{
    JEMPP_SHARED(float, weight, [WEIGHTS]);
    JEMPP_SHARED(float, sums, [5][SLICES][QUADS]);
    const int lane = threadIdx.x % QUADS, slice = threadIdx.x / QUADS;
    const int pixel = 4 * (blockIdx.x * QUADS + lane);
    const int count = row - pixel < 4 ? row - pixel : 4;
    const int n = end - first;

    float sum[5] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f}; // four pixels, and the weights
    for (int start = blockIdx.z * WEIGHTS; start < n; start += PARTS * WEIGHTS) {
        __syncthreads();
        if (threadIdx.x < WEIGHTS / 4) {
            float z[4];
            normal_quad(sequence, base + (unsigned)(start / 4 + threadIdx.x), z);
            for (int i = 0; i < 4; i++) {
                weight[4 * threadIdx.x + i] = z[i];
            }
        }
        __syncthreads();
        const int stop = n - start < WEIGHTS ? n - start : WEIGHTS;
#pragma unroll 4
        for (int j = slice; j < stop; j += SLICES) {
            const unsigned char* x = images + (long long)(first + start + j) * row + pixel;
            const float w = weight[j];
            sum[4] += w;
            if (row % 4 == 0 && count == 4) {
                JEMPP_CHECK_ALIGNED(x, 4);
                const unsigned u = *(const unsigned*)x;
                sum[0] += w * byte_value(u & 255u);
                sum[1] += w * byte_value((u >> 8) & 255u);
                sum[2] += w * byte_value((u >> 16) & 255u);
                sum[3] += w * byte_value(u >> 24);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    if (i < count) {
                        sum[i] += w * byte_value(x[i]);
                    }
                }
            }
        }
    }
    for (int i = 0; i < 5; i++) {
        sums[i][slice][lane] = sum[i];
    }
    __syncthreads();
    if (slice == 0) {
        for (int i = 0; i < 5; i++) {
            for (int s = 1; s < SLICES; s++) {
                sum[i] += sums[i][s][lane];
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (i < count) {
                out[pixel + i] = sum[i] - sum[4] * mean[pixel + i];
            }
        }
    }
}

// For each chain that restarts from its class the sums over the parts of the class's images: parts[part][chain][row].
extern "C" __global__ void __launch_bounds__(JEMPP_BLOCK)
    replay_restart_parts(const int* __restrict__ kind, const int* __restrict__ cls,
                         const unsigned char* __restrict__ images, const int* __restrict__ offsets,
                         const float* __restrict__ means, int count, int classes, const int* __restrict__ seed,
                         const int* __restrict__ step, unsigned step_offset, unsigned stream, int row,
                         float* __restrict__ parts)
{
    const int chain = blockIdx.y, c = cls[chain];
    int first, end;
    if (kind[chain] == 1 && images_of(c, offsets, classes, count, first, end)) {
        const RandomSequence sequence = sequence_at(seed, step, stream, step_offset);
        weighted_sum(images, first, end, means + (long long)c * row, sequence,
                     (unsigned long long)(unsigned)chain << 32, row,
                     parts + ((long long)blockIdx.z * gridDim.y + chain) * row);
    }
}

// out[i, ·] = x[i, ·] (kind 0), an informative start of class[i] (1; NaN if there is no such class, or if its images
// are not all among the `count` images), or uniform noise in [−1, 1] (2). Chain i draws elements i·2³²… of the
// sequence. `out` may be x.
extern "C" __global__ void __launch_bounds__(JEMPP_BLOCK)
    replay_restart(const float* x, const int* __restrict__ kind, const int* __restrict__ cls,
                   const int* __restrict__ offsets, const float* __restrict__ means, int count, int classes,
                   const int* __restrict__ seed, const int* __restrict__ step, unsigned step_offset, unsigned stream,
                   int row, const float* __restrict__ parts, float* out)
{
    const int chain = blockIdx.y, q = blockIdx.x * JEMPP_BLOCK + threadIdx.x;
    if (4 * q >= row) {
        return;
    }
    const float* from = x + (long long)chain * row + 4 * q;
    float* to = out + (long long)chain * row + 4 * q;
    const int here = row - 4 * q < 4 ? row - 4 * q : 4;
    const unsigned long long base = (unsigned long long)(unsigned)chain << 32;
    const RandomSequence sequence = sequence_at(seed, step, stream, step_offset);
    if (kind[chain] == 1) {
        const int c = cls[chain];
        int first = 0, end = 0;
        const bool there = images_of(c, offsets, classes, count, first, end);
        const float factor = end > first ? 1.0f / sqrtf((float)(end - first)) : 0.0f;
        // The pixel noise follows the image weights, in the upper half of the chain's elements.
        float xi[4];
        normal_quad(sequence, base + (1ULL << 31) + (unsigned)q, xi);
        for (int i = 0; i < here; i++) {
            float sum = 0.0f;
            for (int part = 0; there && part < PARTS; part++) {
                sum += parts[((long long)part * gridDim.y + chain) * row + 4 * q + i];
            }
            const float m = there ? means[(long long)c * row + 4 * q + i] : JEMPP_NAN;
            const float v = m + factor * sum + 1e-2f * xi[i];
            to[i] = there ? clip(v, -1.0f, 1.0f) : JEMPP_NAN;
        }
    } else if (kind[chain] == 2) {
        float u[4];
        uniform_quad(sequence, base + (unsigned)q, u);
        for (int i = 0; i < here; i++) {
            to[i] = 2.0f * u[i] - 1.0f;
        }
    } else if (from != to) {
        for (int i = 0; i < here; i++) {
            to[i] = from[i];
        }
    }
}
#undef QUADS
#undef SLICES
#undef WEIGHTS
#undef PARTS
