// Philox uniforms and normals by element: the CUDA counterpart of noise.rs, with the same bits.
//
// What must hold: element i is word i (or normal i) of the sequence, drawn in float32 for any element type; results do
// not depend on the grid. Seed (2 words) and step (1 word) are in device memory; step_offset is added to the step.
//
// Launch: any grid, block 256, no shared memory; enough threads for n/4 quads is best.
#include "philox.cuh"

template <typename T, bool NORMAL>
__device__ void fill_body(const int* seed, const int* step, unsigned step_offset, unsigned stream, long long n, T* out)
{
    const RandomSequence sequence = sequence_at(seed, step, stream, step_offset);
    each_run<4>(n, [&](long long first, int count) {
        float v[4];
        if (NORMAL) {
            normal_quad(sequence, first / 4, v);
        } else {
            uniform_quad(sequence, first / 4, v);
        }
        if (count == 4) {
            Pack<T, 4> p;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p.set(i, v[i]);
            }
            p.store(out + first);
        } else {
#pragma unroll
            for (int i = 0; i < 3; i++) {
                if (i < count) {
                    out[first + i] = from_float<T>(v[i]);
                }
            }
        }
    });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void noise_uniform_##S(const int* seed, const int* step, unsigned step_offset,               \
                                                 unsigned stream, long long n, T* out)                                 \
    {                                                                                                                  \
        fill_body<T, false>(seed, step, step_offset, stream, n, out);                                                  \
    }                                                                                                                  \
    extern "C" __global__ void noise_normal_##S(const int* seed, const int* step, unsigned step_offset,                \
                                                unsigned stream, long long n, T* out)                                  \
    {                                                                                                                  \
        fill_body<T, true>(seed, step, step_offset, stream, n, out);                                                   \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
