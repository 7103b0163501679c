// One row's softmax, formed by one warp: what logsumexp and cross-entropy share.
//
// What must hold: the greatest element is taken out first, so nothing overflows. All lanes of the warp call together
// and get the same.
#pragma once
#include "common.cuh"

struct RowMax {
    float greatest; // NaN passed over
    bool nan;       // whether there is one
};

template <typename T> __device__ __forceinline__ RowMax row_max(const T* row, long long cols)
{
    const int lane = threadIdx.x % JEMPP_WARP;
    float greatest = -JEMPP_INF;
    int nan = 0;
    for (long long c = lane; c < cols; c += JEMPP_WARP) {
        const float v = to_float(row[c]);
        greatest = fmaxf(greatest, v); // passes over NaN
        nan |= v != v;
    }
    RowMax m;
    m.greatest = warp_max(greatest);
    m.nan = __any_sync(JEMPP_ALL_LANES, nan) != 0;
    return m;
}

// Σ exp(x − greatest).
template <typename T> __device__ __forceinline__ float row_exp_sum(const T* row, long long cols, float greatest)
{
    float sum = 0.0f;
    for (long long c = threadIdx.x % JEMPP_WARP; c < cols; c += JEMPP_WARP) {
        sum += expf(to_float(row[c]) - greatest);
    }
    return warp_sum(sum);
}

// log Σ exp(x − greatest): what the logsumexp has beyond the greatest. 0 where the greatest is infinite, NaN where the
// row has one.
template <typename T> __device__ __forceinline__ float row_rest(const T* row, long long cols, const RowMax& m)
{
    if (m.nan) {
        return JEMPP_NAN;
    }
    if (m.greatest > -JEMPP_INF && m.greatest < JEMPP_INF) {
        return logf(row_exp_sum(row, cols, m.greatest));
    }
    return 0.0f;
}

// Calls body(row) for every row that is this warp's.
template <typename F> __device__ __forceinline__ void each_warp_row(long long rows, F body)
{
    const long long warps_a_block = blockDim.x / JEMPP_WARP;
    const long long warps = gridDim.x * warps_a_block;
    for (long long r = blockIdx.x * warps_a_block + threadIdx.x / JEMPP_WARP; r < rows; r += warps) {
        body(r);
    }
}
