// Statistics of all channels of a group together from those of each channel, and their gradient: the CUDA counterpart
// of layer_stats.rs, in float32 with sums in float64; one warp per group.
//
// What must hold: a group's values depend on its own row alone, not on the grid or on other groups.
//
// Launch: any grid, block whole warps; groups/4 blocks of 128 threads is best. No shared memory.
#include "softmax.cuh"

// Σ of(channel)/c over the channels of a row; all lanes get it.
template <typename F> __device__ __forceinline__ double mean_over(int c, F of)
{
    double sum = 0.0;
    for (int i = threadIdx.x % JEMPP_WARP; i < c; i += JEMPP_WARP) {
        sum += of(i);
    }
    return warp_sum(sum) / c;
}

extern "C" __global__ void layer_stats(const float* __restrict__ mean, const float* __restrict__ var, long long groups,
                                       int c, float* __restrict__ all_mean, float* __restrict__ all_var)
{
    each_warp_row(groups, [&](long long g) {
        const float* m = mean + g * c;
        const float* v = var + g * c;
        const double center = mean_over(c, [&](int i) { return (double)m[i]; });
        const double spread = mean_over(c, [&](int i) {
            const double d = (double)m[i] - center;
            return (double)v[i] + d * d;
        });
        for (int i = threadIdx.x % JEMPP_WARP; i < c; i += JEMPP_WARP) {
            all_mean[g * c + i] = (float)center;
            all_var[g * c + i] = (float)spread;
        }
    });
}

// dmean = a + 2b·(m − M) and dvar = b, with the means a of dM and b of dV over the channels.
extern "C" __global__ void layer_stats_grad(const float* __restrict__ mean, const float* __restrict__ d_mean,
                                            const float* __restrict__ d_var, long long groups, int c,
                                            float* __restrict__ dmean, float* __restrict__ dvar)
{
    each_warp_row(groups, [&](long long g) {
        const float* m = mean + g * c;
        const double center = mean_over(c, [&](int i) { return (double)m[i]; });
        const double a = mean_over(c, [&](int i) { return (double)d_mean[g * c + i]; });
        const double b = mean_over(c, [&](int i) { return (double)d_var[g * c + i]; });
        for (int i = threadIdx.x % JEMPP_WARP; i < c; i += JEMPP_WARP) {
            dmean[g * c + i] = (float)(a + 2.0 * b * ((double)m[i] - center));
            dvar[g * c + i] = (float)b;
        }
    });
}
