// Square windows over the pixels of N×H×W×C images: the CUDA counterpart of windows.rs.
#pragma once
#include "common.cuh"

struct Windows {
    int h, w, c, size, stride, pad, oh, ow;
};

#define WINDOWS_SHAPE long long n, int h, int w, int c, int size, int stride, int pad, int oh, int ow
#define WINDOWS_GIVEN {h, w, c, size, stride, pad, oh, ow}

struct Side {
    int start, end;
};

// The pixels that window `o` covers along an axis of `len` pixels.
__device__ __forceinline__ Side seen(const Windows& v, int o, int len)
{
    const int start = o * v.stride - v.pad, end = start + v.size;
    return {start > 0 ? start : 0, end < len ? end : len};
}

// The windows, of `outs` along this axis, that cover pixel `i`.
__device__ __forceinline__ Side seers(const Windows& v, int i, int outs)
{
    const int before = i + v.pad + 1 - v.size, end = (i + v.pad) / v.stride + 1;
    return {before > 0 ? (before + v.stride - 1) / v.stride : 0, end < outs ? end : outs};
}
