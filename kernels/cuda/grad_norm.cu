// The joint norm of all gradients, clipping by it, and the perturbation of adaptive sharpness-aware minimisation: the
// CUDA counterpart of grad_norm.rs. Clipping and perturbation give the same bits.
//
// What must hold: everything is float32 but for sums, which are formed per chunk in a fixed order in float64, so
// results do not depend on the grid; no fused multiply-add. The sum of squares is in device memory. `out` of the
// clipping may be g. `low`, if not null, gets the perturbed weights in bf16.
//
// Launch:
//   sum_squares_parts           grid (any; best ⌈n/8192⌉), block 256; parts: ⌈n/8192⌉ doubles, which sum_all_final of
//                               reduce.cu adds; `w` is null for Σ g²
//   clip_gradient, sam_perturb  any grid, block 256; enough threads for n/4 quads is best
// Static shared memory only.
#include "common.cuh"

#define SUM_SQUARES_CHUNK 8192

extern "C" __global__ void sum_squares_parts(const float* __restrict__ g, const float* __restrict__ w, long long n,
                                             double* __restrict__ parts)
{
    JEMPP_SHARED(double, sums, [JEMPP_BLOCK / JEMPP_WARP]);
    const long long chunks = (n + SUM_SQUARES_CHUNK - 1) / SUM_SQUARES_CHUNK;
    for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const long long first = chunk * SUM_SQUARES_CHUNK;
        const long long end = first + SUM_SQUARES_CHUNK < n ? first + SUM_SQUARES_CHUNK : n;
        double sum = 0.0;
        for (long long i = first + threadIdx.x; i < end; i += JEMPP_BLOCK) {
            const double v = w ? (double)w[i] * (double)g[i] : (double)g[i];
            sum += v * v;
        }
        sum = warp_sum(sum);
        if (threadIdx.x % JEMPP_WARP == 0) {
            sums[threadIdx.x / JEMPP_WARP] = sum;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int k = 1; k < JEMPP_BLOCK / JEMPP_WARP; k++) {
                sum += sums[k];
            }
            parts[chunk] = sum;
        }
        __syncthreads();
    }
}

template <int V> __device__ __forceinline__ void clip_pack(float factor, const float* g, float* out)
{
    Pack<float, V> p;
    p.load(g);
#pragma unroll
    for (int i = 0; i < V; i++) {
        p.set(i, p.get(i) * factor);
    }
    p.store(out);
}

// out = g·min(1, max/(√s + eps)); a NaN stays one.
extern "C" __global__ void clip_gradient(const float* g, const float* s, double max, double eps, long long n, float* out)
{
    const double ratio = max / (sqrt((double)*s) + eps);
    const float factor = (float)(ratio > 1.0 ? 1.0 : ratio);
    each_pack<4>(
        n, [&](long long i) { clip_pack<4>(factor, g + i, out + i); },
        [&](long long i) { clip_pack<1>(factor, g + i, out + i); });
}

template <int V>
__device__ __forceinline__ void perturb_pack(float factor, const float* w, const float* g, float* out, bf16* low)
{
    Pack<float, V> weight, grad;
    Pack<bf16, V> l;
    weight.load(w);
    grad.load(g);
#pragma unroll
    for (int i = 0; i < V; i++) {
        const float v = weight.get(i);
        const float next = v + v * v * grad.get(i) * factor;
        weight.set(i, next);
        l.set(i, next);
    }
    weight.store(out);
    if (low) {
        l.store(low);
    }
}

// out = w + rho·w²·g/(√s + eps).
extern "C" __global__ void sam_perturb(const float* w, const float* g, const float* s, double rho, double eps,
                                       long long n, float* out, bf16* low)
{
    const float factor = (float)(rho / (sqrt((double)*s) + eps));
    const auto l = [&](long long i) { return low ? low + i : low; };
    each_pack<4>(
        n, [&](long long i) { perturb_pack<4>(factor, w + i, g + i, out + i, l(i)); },
        [&](long long i) { perturb_pack<1>(factor, w + i, g + i, out + i, l(i)); });
}

#undef SUM_SQUARES_CHUNK
