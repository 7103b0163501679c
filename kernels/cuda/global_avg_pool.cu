// Mean over the pixels of each image and channel, and its gradient: the CUDA counterpart of global_avg_pool.rs.
//
// What must hold: means and their gradient are float32, the activations of type S; pixels are added in order in
// float32; results do not depend on the grid. factor = 1/pixels, rounded from float64.
//
// Launch: any grid, block 256, no shared memory. Enough threads for n·c/V (forward) or n·pixels·c/V (gradient) packs
// is best, V = 4 (float32) or 8 (bf16) where it divides c, else 1.
#include "common.cuh"

template <typename T, int V>
__device__ void forward_body(const T* __restrict__ x, long long n, int pixels, int c, float factor,
                             float* __restrict__ y)
{
    const int packs = c / V;
    each_run<1>(n * packs, [&](long long i, int) {
        const T* from = x + i / packs * pixels * c + i % packs * V;
        float sum[V];
        for (int v = 0; v < V; v++) {
            sum[v] = 0.0f;
        }
#pragma unroll 8
        for (int p = 0; p < pixels; p++) {
            Pack<T, V> in;
            in.load(from + (long long)p * c);
#pragma unroll
            for (int v = 0; v < V; v++) {
                sum[v] += in.get(v);
            }
        }
        for (int v = 0; v < V; v++) {
            y[i * V + v] = sum[v] * factor;
        }
    });
}

template <typename T, int V>
__device__ void grad_body(const float* __restrict__ dy, long long n, int pixels, int c, float factor,
                          T* __restrict__ dx)
{
    const int packs = c / V;
    each_run<1>(n * pixels * packs, [&](long long i, int) {
        const float* from = dy + i / packs / pixels * c + i % packs * V;
        Pack<T, V> out;
#pragma unroll
        for (int v = 0; v < V; v++) {
            out.set(v, from[v] * factor);
        }
        out.store(dx + i * V);
    });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void global_avg_pool_##S(const T* x, long long n, int pixels, int c, float factor, float* y) \
    {                                                                                                                  \
        if (c % Wide<T>::V == 0) {                                                                                     \
            forward_body<T, Wide<T>::V>(x, n, pixels, c, factor, y);                                                   \
        } else {                                                                                                       \
            forward_body<T, 1>(x, n, pixels, c, factor, y);                                                            \
        }                                                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void global_avg_pool_grad_##S(const float* dy, long long n, int pixels, int c, float factor, \
                                                        T* dx)                                                         \
    {                                                                                                                  \
        if (c % Wide<T>::V == 0) {                                                                                     \
            grad_body<T, Wide<T>::V>(dy, n, pixels, c, factor, dx);                                                    \
        } else {                                                                                                       \
            grad_body<T, 1>(dy, n, pixels, c, factor, dx);                                                             \
        }                                                                                                              \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
