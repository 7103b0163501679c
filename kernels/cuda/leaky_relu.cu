// y = x for x ≥ 0, leak·x below, and its gradient: the CUDA counterpart of leaky_relu.rs.
//
// What must hold: the slope at zero is the leak, as in PyTorch; results do not depend on the grid. y may alias x,
// dx over x or dy.
//
// Launch: any grid, block 256, no shared memory; enough threads for n/V packs is best (V = 4 for float32, 8 for bf16).
#include "common.cuh"

template <typename T, int V> __device__ __forceinline__ void forward_pack(const T* x, float leak, T* y)
{
    Pack<T, V> in, out;
    in.load(x);
#pragma unroll
    for (int v = 0; v < V; v++) {
        const float z = in.get(v);
        out.set(v, z < 0.0f ? z * leak : z);
    }
    out.store(y);
}

template <typename T, int V> __device__ __forceinline__ void grad_pack(const T* x, const T* dy, float leak, T* dx)
{
    Pack<T, V> in, up, out;
    in.load(x);
    up.load(dy);
#pragma unroll
    for (int v = 0; v < V; v++) {
        out.set(v, in.get(v) > 0.0f ? up.get(v) : up.get(v) * leak);
    }
    out.store(dx);
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void leaky_relu_##S(const T* x, long long n, float leak, T* y)                               \
    {                                                                                                                  \
        each_pack<Wide<T>::V>(                                                                                         \
            n, [&](long long i) { forward_pack<T, Wide<T>::V>(x + i, leak, y + i); },                                  \
            [&](long long i) { forward_pack<T, 1>(x + i, leak, y + i); });                                             \
    }                                                                                                                  \
    extern "C" __global__ void leaky_relu_grad_##S(const T* x, const T* dy, long long n, float leak, T* dx)            \
    {                                                                                                                  \
        each_pack<Wide<T>::V>(                                                                                         \
            n, [&](long long i) { grad_pack<T, Wide<T>::V>(x + i, dy + i, leak, dx + i); },                            \
            [&](long long i) { grad_pack<T, 1>(x + i, dy + i, leak, dx + i); });                                       \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
