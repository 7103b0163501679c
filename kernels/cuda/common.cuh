// Shared by every kernel: constants that the run-time compiler does not define, and reductions over one warp.
//
// What must hold: reductions are butterflies of a fixed shape, so a result depends on the numbers alone and never
// on timing, and every lane of the warp ends with the same value. All 32 lanes must call them together.
#pragma once

#define JEMPP_WARP 32
#define JEMPP_ALL_LANES 0xffffffffu
#define JEMPP_INF __int_as_float(0x7f800000)
#define JEMPP_NAN __int_as_float(0x7fc00000)

__device__ __forceinline__ float warp_max(float v)
{
    for (int lane = JEMPP_WARP / 2; lane > 0; lane /= 2) {
        v = fmaxf(v, __shfl_xor_sync(JEMPP_ALL_LANES, v, lane));
    }
    return v;
}

__device__ __forceinline__ float warp_sum(float v)
{
    for (int lane = JEMPP_WARP / 2; lane > 0; lane /= 2) {
        v += __shfl_xor_sync(JEMPP_ALL_LANES, v, lane);
    }
    return v;
}
