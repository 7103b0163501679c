// What a residual stream lacks if convolutions leave out their biases: the CUDA counterpart of bias_offset.rs.
//
// What must hold: out[k] = bias[k] + before[k], or with the filters w[k, c] of a 1×1 shortcut and its bias
// bias[k] + (short[k] + Σ w[k, c]·before[c]); sums are formed in a fixed order, so results do not depend on the grid.
// Filters are of type S, all else is float32.
//
// Launch: any grid, block whole warps, no shared memory; one warp a channel is best.
#include "common.cuh"

template <typename T>
__device__ void offset_body(const float* __restrict__ before, const float* __restrict__ bias, const T* __restrict__ w,
                            const float* __restrict__ shortcut, int c, int channels, float* __restrict__ out)
{
    const int lane = threadIdx.x % JEMPP_WARP, a_block = blockDim.x / JEMPP_WARP;
    for (int k = blockIdx.x * a_block + threadIdx.x / JEMPP_WARP; k < channels; k += gridDim.x * a_block) {
        float sum = 0.0f;
        for (int j = lane; w && j < c; j += JEMPP_WARP) {
            sum += to_float(w[(long long)k * c + j]) * before[j];
        }
        sum = warp_sum(sum);
        if (lane == 0) {
            out[k] = bias[k] + (w ? shortcut[k] + sum : before[k]);
        }
    }
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void bias_offset_##S(const float* before, const float* bias, const T* w,                     \
                                               const float* shortcut, int c, int channels, float* out)                 \
    {                                                                                                                  \
        offset_body(before, bias, w, shortcut, c, channels, out);                                                      \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
