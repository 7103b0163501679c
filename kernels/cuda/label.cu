// Gathering the logit of the label, its transpose, and counting correct predictions: the CUDA counterpart of label.rs.
//
// What must hold: a label outside 0..c gives NaN (0 hits); of equal largest logits the first counts; a NaN is the
// largest only if it comes first.
//
// Launch: label_gather_S grid ⌈n/256⌉, block 256; label_scatter_S any grid, block 256; label_hits_S any grid, block
// whole warps, best n/4 blocks of 128. No shared memory.
#include "common.cuh"

template <typename T>
__device__ void hits_body(const T* __restrict__ x, const int* __restrict__ label, long long n, int c,
                          float* __restrict__ y)
{
    const int lane = threadIdx.x % JEMPP_WARP;
    const long long warps_a_block = blockDim.x / JEMPP_WARP;
    const long long warps = gridDim.x * warps_a_block;
    for (long long r = blockIdx.x * warps_a_block + threadIdx.x / JEMPP_WARP; r < n; r += warps) {
        const T* row = x + r * c;
        float largest = to_float(row[0]);
        const bool nan = largest != largest;
        int best = 0;
        for (int j = lane; j < c; j += JEMPP_WARP) {
            const float v = to_float(row[j]);
            if (v > largest) {
                largest = v;
                best = j;
            }
        }
        for (int other = JEMPP_WARP / 2; other > 0; other /= 2) {
            const float v = __shfl_xor_sync(JEMPP_ALL_LANES, largest, other);
            const int j = __shfl_xor_sync(JEMPP_ALL_LANES, best, other);
            if (v > largest || (v == largest && j < best)) {
                largest = v;
                best = j;
            }
        }
        if (lane == 0) {
            const int l = label[r];
            y[r] = l >= 0 && l < c && l == (nan ? 0 : best) ? 1.0f : 0.0f;
        }
    }
}

#define KERNELS(T, S)                                                                                                  \
    /* y[n] = x[n, label[n]] */                                                                                        \
    extern "C" __global__ void label_gather_##S(const T* x, const int* label, long long n, int c, float* y)            \
    {                                                                                                                  \
        each_run<1>(n, [&](long long r, int) {                                                                         \
            const int l = label[r];                                                                                    \
            y[r] = l >= 0 && l < c ? to_float(x[r * c + l]) : JEMPP_NAN;                                               \
        });                                                                                                            \
    }                                                                                                                  \
    /* x[n, c] = v[n] where c = label[n], else 0 */                                                                    \
    extern "C" __global__ void label_scatter_##S(const float* v, const int* label, long long n, int c, T* x)           \
    {                                                                                                                  \
        each_run<1>(n * c, [&](long long i, int) {                                                                     \
            const int l = label[i / c];                                                                                \
            const float inside = i % c == l ? v[i / c] : 0.0f;                                                         \
            x[i] = from_float<T>(l >= 0 && l < c ? inside : JEMPP_NAN);                                                \
        });                                                                                                            \
    }                                                                                                                  \
    /* y[n] = 1 where the largest logit is the label's, else 0 */                                                      \
    extern "C" __global__ void label_hits_##S(const T* x, const int* label, long long n, int c, float* y)              \
    {                                                                                                                  \
        hits_body(x, label, n, c, y);                                                                                  \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
