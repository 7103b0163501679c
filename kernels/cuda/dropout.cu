// Inverted dropout by Philox uniforms: the CUDA counterpart of dropout.rs, with the same bits.
//
// What must hold: element i of a layer takes word i of the groups that begin at layer·2³²; the mask does not depend on
// the type or the grid. Seed (2 words) and step (1 word) are in device memory. y may alias x.
//
// Launch: any grid, block 256, no shared memory; enough threads for n/4 quads is best.
#include "philox.cuh"

template <typename T>
__device__ void dropout_body(const T* x, const int* seed, const int* step, unsigned stream, unsigned layer, float rate,
                             float scale, long long n, T* y)
{
    const RandomSequence sequence = sequence_at(seed, step, stream, 0);
    const unsigned long long base = (unsigned long long)layer << 32;
    each_run<4>(n, [&](long long first, int count) {
        float u[4];
        uniform_quad(sequence, base + (unsigned long long)(first / 4), u);
        if (count == 4) {
            Pack<T, 4> in, out;
            in.load(x + first);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                out.set(i, u[i] < rate ? 0.0f : in.get(i) * scale);
            }
            out.store(y + first);
        } else {
#pragma unroll
            for (int i = 0; i < 3; i++) {
                if (i < count) {
                    y[first + i] = from_float<T>(u[i] < rate ? 0.0f : to_float(x[first + i]) * scale);
                }
            }
        }
    });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void dropout_##S(const T* x, const int* seed, const int* step, unsigned stream,              \
                                           unsigned layer, float rate, float scale, long long n, T* y)                 \
    {                                                                                                                  \
        dropout_body<T>(x, seed, step, stream, layer, rate, scale, n, y);                                              \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
