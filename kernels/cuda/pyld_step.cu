// One outer step of PYLD (Yang & Ji, ICCV 2021) from the gradient of the energy: the CUDA counterpart of pyld_step.rs,
// with the same bits.
//
// What must hold: chains are float32, the gradient is of type S; results do not depend on the grid; element i takes
// normal i of the sequence. `out` may be x. Seed (2 words) and step (1 word) are in device memory, so that a captured
// graph draws anew each time; step_offset is added to the step.
//   eps               the gradient is clipped to ±eps
//   side              each step is clipped to ±side; either bound may be infinite
//   sgld              step of the update before the inner steps; 0 for none
//   inner, first, rest   number of inner steps; α; α·(inner − 1), each rounded from float64
//   noise             standard deviation of the noise after them; 0 for none (then seed and step may be null)
//   low               null, or where a bf16 copy of the result goes
//   slot, buffer, row    null, or: row i of the result is also written to row slot[i] of the buffer, where that is not
//                     negative. See replay_slots in replay.cu, which leaves one row for each slot.
//
// Launch: any grid, block 256, no shared memory; enough threads for n/4 quads is best.
#include "philox.cuh"

struct Step {
    float eps, side, sgld, first, rest, noise;
    int inner, clip_after;
};

__device__ __forceinline__ float moved(const Step& s, float x, float g)
{
    g = clip(g, -s.eps, s.eps);
    if (s.sgld > 0.0f) {
        x = clip(x + s.sgld * g, -s.side, s.side);
    }
    if (s.inner > 0) {
        x = clip(x + s.first * g, -s.side, s.side);
        x = clip(x + s.rest * g, -s.side, s.side);
    }
    return x;
}

template <typename T>
__device__ void step_body(const Step& s, const float* x, const T* __restrict__ g, long long n, const int* seed,
                          const int* step, unsigned step_offset, unsigned stream, float* out, bf16* low,
                          const int* __restrict__ slot, float* buffer, long long row)
{
    RandomSequence sequence = {0, 0, 0, 0};
    if (s.noise > 0.0f) {
        sequence = sequence_at(seed, step, stream, step_offset);
    }
    each_run<4>(n, [&](long long at, int count) {
        Pack<float, 4> v;
        Pack<T, 4> d;
        if (count == 4) {
            v.load(x + at);
            d.load(g + at);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                v.set(i, i < count ? x[at + i] : 0.0f);
                d.set(i, i < count ? to_float(g[at + i]) : 0.0f);
            }
        }
        float z[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (s.noise > 0.0f) {
            normal_quad(sequence, at / 4, z);
        }
        Pack<bf16, 4> l;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float w = moved(s, v.get(i), d.get(i));
            if (s.noise > 0.0f) {
                w = w + s.noise * z[i];
                w = s.clip_after ? clip(w, -1.0f, 1.0f) : w;
            }
            v.set(i, w);
            l.set(i, w);
        }
        if (count == 4) {
            v.store(out + at);
            if (low) {
                l.store(low + at);
            }
        } else {
#pragma unroll
            for (int i = 0; i < 3; i++) {
                if (i < count) {
                    out[at + i] = v.get(i);
                    if (low) {
                        low[at + i] = from_float<bf16>(v.get(i));
                    }
                }
            }
        }
        if (!slot) {
            return;
        }
        if (row % 4 == 0) {
            const int to = slot[at / row];
            if (to >= 0) {
                v.store(buffer + to * row + at % row);
            }
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int to = i < count ? slot[(at + i) / row] : -1;
                if (to >= 0) {
                    buffer[to * row + (at + i) % row] = v.get(i);
                }
            }
        }
    });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void pyld_step_##S(const float* x, const T* g, long long n, float eps, float side,           \
                                             float sgld, int inner, float first, float rest, float noise,              \
                                             int clip_after, const int* seed, const int* step,                         \
                                             unsigned step_offset, unsigned stream, float* out, bf16* low,             \
                                             const int* slot, float* buffer, long long row)                            \
    {                                                                                                                  \
        const Step s = {eps, side, sgld, first, rest, noise, inner, clip_after};                                       \
        step_body(s, x, g, n, seed, step, step_offset, stream, out, low, slot, buffer, row);                           \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
