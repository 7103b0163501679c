// 2-D convolution, N×H×W×C images and K×R×S×C filters, and its two gradients, directly: the definition, for devices
// without cuDNN and as its oracle. The twin of cpu/conv/naive.rs.
//
// What must hold: each output is one thread's chain of fused multiply-adds, begun with what is added to it, in the
// order of the loops below; results do not depend on the grid.
//
// Launch: any grid, block 256, no shared memory. One thread for each output element is best.
#include "common.cuh"

struct Conv {
    int n, h, w, c, k, r, s, stride, pad, oh, ow;
};

// The output row (or column) that reads input row `in` through filter row `tap`, or −1 where there is none.
__device__ __forceinline__ int source(int in, int tap, const Conv& v, int outs)
{
    const int at = in + v.pad - tap;
    if (at < 0 || at % v.stride != 0) {
        return -1;
    }
    return at / v.stride < outs ? at / v.stride : -1;
}

#define SHAPE int n, int h, int w_, int c, int k, int r, int s, int stride, int pad, int oh, int ow
#define GIVEN {n, h, w_, c, k, r, s, stride, pad, oh, ow}

// y[row, channel] = add[row, channel] + bias[channel]; either may be null and stands for zeros. y may lie over add.
extern "C" __global__ void conv2d_begin_f32(const float* add, const float* __restrict__ bias, long long rows, int k,
                                            float* y)
{
    each_run<1>(rows * k, [&](long long i, int) {
        const float sum = add ? add[i] : 0.0f;
        y[i] = bias ? sum + bias[i % k] : sum;
    });
}

// y = begin + x ∗ w, where `begin` is what y holds if `more`, else zero.
extern "C" __global__ void conv2d_forward_f32(const float* __restrict__ x, const float* __restrict__ w, int more,
                                              SHAPE, float* y)
{
    const Conv v = GIVEN;
    each_run<1>((long long)n * oh * ow * k, [&](long long i, int) {
        const int filter = (int)(i % v.k), ox = (int)(i / v.k % v.ow), oy = (int)(i / v.k / v.ow % v.oh);
        const long long image = i / v.k / v.ow / v.oh;
        float sum = more ? y[i] : 0.0f;
        for (int a = 0; a < v.r; a++) {
            const int iy = oy * v.stride + a - v.pad;
            for (int b = 0; b < v.s; b++) {
                const int ix = ox * v.stride + b - v.pad;
                if (iy < 0 || iy >= v.h || ix < 0 || ix >= v.w) {
                    continue;
                }
                const float* from = x + ((image * v.h + iy) * v.w + ix) * v.c;
                const float* tap = w + (((long long)filter * v.r + a) * v.s + b) * v.c;
                for (int j = 0; j < v.c; j++) {
                    sum = __fmaf_rn(from[j], tap[j], sum);
                }
            }
        }
        y[i] = sum;
    });
}

// dx = begin + the gradient by x, from dy and w.
extern "C" __global__ void conv2d_input_grad_f32(const float* __restrict__ dy, const float* __restrict__ w, int more,
                                                 SHAPE, float* dx)
{
    const Conv v = GIVEN;
    each_run<1>((long long)n * h * w_ * c, [&](long long i, int) {
        const int channel = (int)(i % v.c), ix = (int)(i / v.c % v.w), iy = (int)(i / v.c / v.w % v.h);
        const long long image = i / v.c / v.w / v.h;
        float sum = more ? dx[i] : 0.0f;
        for (int a = 0; a < v.r; a++) {
            const int oy = source(iy, a, v, v.oh);
            for (int b = 0; b < v.s; b++) {
                const int ox = source(ix, b, v, v.ow);
                if (oy < 0 || ox < 0) {
                    continue;
                }
                const float* from = dy + ((image * v.oh + oy) * v.ow + ox) * v.k;
                const float* tap = w + ((long long)a * v.s + b) * v.c + channel;
                for (int j = 0; j < v.k; j++) {
                    sum = __fmaf_rn(from[j], tap[(long long)j * v.r * v.s * v.c], sum);
                }
            }
        }
        dx[i] = sum;
    });
}

// dw = begin + the gradient by w, from x and dy.
extern "C" __global__ void conv2d_weight_grad_f32(const float* __restrict__ x, const float* __restrict__ dy, int more,
                                                  SHAPE, float* dw)
{
    const Conv v = GIVEN;
    each_run<1>((long long)k * r * s * c, [&](long long i, int) {
        const int channel = (int)(i % v.c), b = (int)(i / v.c % v.s), a = (int)(i / v.c / v.s % v.r);
        const int filter = (int)(i / v.c / v.s / v.r);
        float sum = more ? dw[i] : 0.0f;
        for (int image = 0; image < v.n; image++) {
            for (int oy = 0; oy < v.oh; oy++) {
                const int iy = oy * v.stride + a - v.pad;
                for (int ox = 0; ox < v.ow; ox++) {
                    const int ix = ox * v.stride + b - v.pad;
                    if (iy < 0 || iy >= v.h || ix < 0 || ix >= v.w) {
                        continue;
                    }
                    const long long out = ((long long)image * v.oh + oy) * v.ow + ox;
                    const long long in = ((long long)image * v.h + iy) * v.w + ix;
                    sum = __fmaf_rn(dy[out * v.k + filter], x[in * v.c + channel], sum);
                }
            }
        }
        dw[i] = sum;
    });
}
#undef SHAPE
#undef GIVEN
