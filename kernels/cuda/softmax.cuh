// The softmax of one row, computed by one warp: used by logsumexp and cross-entropy.
//
// What must hold: the maximum is subtracted first, so nothing overflows. All lanes of the warp call together and get
// the same result.
#pragma once
#include "common.cuh"

struct RowMax {
    float greatest; // the maximum, ignoring NaN
    bool nan;       // whether the row has a NaN
};

template <typename T> __device__ __forceinline__ RowMax row_max(const T* row, long long cols)
{
    const int lane = threadIdx.x % JEMPP_WARP;
    float greatest = -JEMPP_INF;
    int nan = 0;
    for (long long c = lane; c < cols; c += JEMPP_WARP) {
        const float v = to_float(row[c]);
        greatest = fmaxf(greatest, v); // ignores NaN
        nan |= v != v;
    }
    RowMax m;
    m.greatest = warp_max(greatest);
    m.nan = __any_sync(JEMPP_ALL_LANES, nan) != 0;
    return m;
}

// Σ exp(x − maximum).
template <typename T> __device__ __forceinline__ float row_exp_sum(const T* row, long long cols, float greatest)
{
    float sum = 0.0f;
    for (long long c = threadIdx.x % JEMPP_WARP; c < cols; c += JEMPP_WARP) {
        sum += expf(to_float(row[c]) - greatest);
    }
    return warp_sum(sum);
}

// log Σ exp(x − maximum): the logsumexp minus the maximum. 0 if the maximum is infinite, NaN if the row has a NaN.
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

// Calls body(row) for every row of this warp.
template <typename F> __device__ __forceinline__ void each_warp_row(long long rows, F body)
{
    const long long warps_a_block = blockDim.x / JEMPP_WARP;
    const long long warps = gridDim.x * warps_a_block;
    for (long long r = blockIdx.x * warps_a_block + threadIdx.x / JEMPP_WARP; r < rows; r += warps) {
        body(r);
    }
}
