// Slices of a batch: taking rows out, putting them back among zeros, and concatenating them: the CUDA counterpart of
// batch.rs.
//
// What must hold: bits are moved, never converted, so copy_f32 serves int32 as well. Concatenation is one copy per
// part. Offsets and lengths are in elements.
//
// Launch: any grid, block 256, no shared memory; enough threads for n/V packs is best (V = 4 for float32, 8 for bf16).
#include "common.cuh"

// 16 bytes at once where both sides allow it.
template <typename T>
__device__ void copy_body(const T* __restrict__ from, T* __restrict__ to, long long n)
{
    const int V = Wide<T>::V;
    const bool aligned = (((unsigned long long)from | (unsigned long long)to) & 15) == 0;
    each_run<V>(n, [&](long long first, int count) {
        if (aligned && count == V) {
            Pack<T, V> p;
            p.load(from + first);
            p.store(to + first);
        } else {
            for (int i = 0; i < count; i++) {
                to[first + i] = from[first + i];
            }
        }
    });
}

#define KERNELS(T, S)                                                                                                  \
    /* out[out_at + i] = x[x_at + i] */                                                                                \
    extern "C" __global__ void copy_##S(const T* x, long long x_at, T* out, long long out_at, long long n)             \
    {                                                                                                                  \
        copy_body(x + x_at, out + out_at, n);                                                                          \
    }                                                                                                                  \
    /* out[at + i] = x[i] for the n elements of x, and zero elsewhere in the out_n elements */                         \
    extern "C" __global__ void embed_##S(const T* x, long long at, long long n, T* out, long long out_n)               \
    {                                                                                                                  \
        const T zero = from_float<T>(0.0f);                                                                            \
        each_run<1>(out_n, [&](long long i, int) { out[i] = i >= at && i < at + n ? x[i - at] : zero; });              \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
