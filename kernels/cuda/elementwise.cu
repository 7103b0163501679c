// a·x + b·y and x·y, elementwise: the CUDA counterpart of elementwise.rs.
//
// What must hold: no fused multiply-add; results do not depend on the grid. `out` may alias x or y.
//
// Launch: any grid, block 256, no shared memory; enough threads for n/V packs is best (V = 4 for float32, 8 for bf16).
#include "common.cuh"

template <typename T, int V>
__device__ __forceinline__ void axpby_pack(float a, const T* x, float b, const T* y, T* out)
{
    Pack<T, V> p, q, r;
    p.load(x);
    q.load(y);
#pragma unroll
    for (int v = 0; v < V; v++) {
        r.set(v, a * p.get(v) + b * q.get(v));
    }
    r.store(out);
}

template <typename T, int V> __device__ __forceinline__ void mul_pack(const T* x, const T* y, T* out)
{
    Pack<T, V> p, q, r;
    p.load(x);
    q.load(y);
#pragma unroll
    for (int v = 0; v < V; v++) {
        r.set(v, p.get(v) * q.get(v));
    }
    r.store(out);
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void axpby_##S(float a, const T* x, float b, const T* y, long long n, T* out)                \
    {                                                                                                                  \
        each_pack<Wide<T>::V>(                                                                                         \
            n, [&](long long i) { axpby_pack<T, Wide<T>::V>(a, x + i, b, y + i, out + i); },                           \
            [&](long long i) { axpby_pack<T, 1>(a, x + i, b, y + i, out + i); });                                      \
    }                                                                                                                  \
    extern "C" __global__ void mul_##S(const T* x, const T* y, long long n, T* out)                                    \
    {                                                                                                                  \
        each_pack<Wide<T>::V>(                                                                                         \
            n, [&](long long i) { mul_pack<T, Wide<T>::V>(x + i, y + i, out + i); },                                   \
            [&](long long i) { mul_pack<T, 1>(x + i, y + i, out + i); });                                              \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
