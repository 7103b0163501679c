// 2-D convolution, N×H×W×C images and K×R×S×C filters, and its two gradients, directly, by their definition: for
// devices without cuDNN, and as the reference for cuDNN. The CUDA counterpart of cpu/conv/reference.rs.
//
// What must hold: each output is one thread's chain of fused multiply-adds, starting from the addend, in the order of
// the loops below, rounded once to its type; results do not depend on the grid. Images, filters and outputs are of type
// S; biases and the gradient with respect to the filters are float32.
//
// Launch: any grid, block 256, no shared memory. One thread for each output element is best.
#include "common.cuh"

struct Conv {
    int n, h, w, c, k, r, s, stride, pad, oh, ow;
};

// The output row (or column) that reads input row `in` through filter row `tap`, or −1 if there is none.
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

// y[row, channel] += bias[channel].
template <typename T, int V>
__device__ void bias_body(const float* __restrict__ bias, long long rows, int k, T* y)
{
    each_run<1>(rows * k / V, [&](long long i, int) {
        const float* b = bias + i * V % k;
        Pack<T, V> sum;
        sum.load(y + i * V);
        sum.make([&](int v) { return sum.get(v) + b[v]; });
        sum.store(y + i * V);
    });
}

// y = x ∗ w, added to what y holds if `more`.
template <typename T>
__device__ void forward_body(const Conv& v, const T* __restrict__ x, const T* __restrict__ w, int more, T* y)
{
    each_run<1>((long long)v.n * v.oh * v.ow * v.k, [&](long long i, int) {
        const int filter = (int)(i % v.k), ox = (int)(i / v.k % v.ow), oy = (int)(i / v.k / v.ow % v.oh);
        const long long image = i / v.k / v.ow / v.oh;
        float sum = more ? to_float(y[i]) : 0.0f;
        for (int a = 0; a < v.r; a++) {
            const int iy = oy * v.stride + a - v.pad;
            for (int b = 0; b < v.s; b++) {
                const int ix = ox * v.stride + b - v.pad;
                if (iy < 0 || iy >= v.h || ix < 0 || ix >= v.w) {
                    continue;
                }
                const T* from = x + ((image * v.h + iy) * v.w + ix) * v.c;
                const T* tap = w + (((long long)filter * v.r + a) * v.s + b) * v.c;
                for (int j = 0; j < v.c; j++) {
                    sum = __fmaf_rn(to_float(from[j]), to_float(tap[j]), sum);
                }
            }
        }
        y[i] = from_float<T>(sum);
    });
}

// dx = the gradient with respect to x, from dy and w.
template <typename T>
__device__ void input_grad_body(const Conv& v, const T* __restrict__ dy, const T* __restrict__ w, int more, T* dx)
{
    each_run<1>((long long)v.n * v.h * v.w * v.c, [&](long long i, int) {
        const int channel = (int)(i % v.c), ix = (int)(i / v.c % v.w), iy = (int)(i / v.c / v.w % v.h);
        const long long image = i / v.c / v.w / v.h;
        float sum = more ? to_float(dx[i]) : 0.0f;
        for (int a = 0; a < v.r; a++) {
            const int oy = source(iy, a, v, v.oh);
            for (int b = 0; b < v.s; b++) {
                const int ox = source(ix, b, v, v.ow);
                if (oy < 0 || ox < 0) {
                    continue;
                }
                const T* from = dy + ((image * v.oh + oy) * v.ow + ox) * v.k;
                const T* tap = w + ((long long)a * v.s + b) * v.c + channel;
                for (int j = 0; j < v.k; j++) {
                    sum = __fmaf_rn(to_float(from[j]), to_float(tap[(long long)j * v.r * v.s * v.c]), sum);
                }
            }
        }
        dx[i] = from_float<T>(sum);
    });
}

// dw = the gradient with respect to w, from x and dy.
template <typename T>
__device__ void weight_grad_body(const Conv& v, const T* __restrict__ x, const T* __restrict__ dy, int more, float* dw)
{
    each_run<1>((long long)v.k * v.r * v.s * v.c, [&](long long i, int) {
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
                    sum = __fmaf_rn(to_float(dy[out * v.k + filter]), to_float(x[in * v.c + channel]), sum);
                }
            }
        }
        dw[i] = sum;
    });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void conv2d_bias_##S(const float* bias, long long rows, int k, T* y)                         \
    {                                                                                                                  \
        if (k % Wide<T>::V == 0) {                                                                                     \
            bias_body<T, Wide<T>::V>(bias, rows, k, y);                                                                \
        } else {                                                                                                       \
            bias_body<T, 1>(bias, rows, k, y);                                                                         \
        }                                                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void conv2d_forward_##S(const T* x, const T* w, int more, SHAPE, T* y)                       \
    {                                                                                                                  \
        const Conv v = GIVEN;                                                                                          \
        forward_body(v, x, w, more, y);                                                                                \
    }                                                                                                                  \
    extern "C" __global__ void conv2d_input_grad_##S(const T* dy, const T* w, int more, SHAPE, T* dx)                  \
    {                                                                                                                  \
        const Conv v = GIVEN;                                                                                          \
        input_grad_body(v, dy, w, more, dx);                                                                           \
    }                                                                                                                  \
    extern "C" __global__ void conv2d_weight_grad_##S(const T* x, const T* dy, int more, SHAPE, float* dw)             \
    {                                                                                                                  \
        const Conv v = GIVEN;                                                                                          \
        weight_grad_body(v, x, dy, more, dw);                                                                          \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
#undef SHAPE
#undef GIVEN
