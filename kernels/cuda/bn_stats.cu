// Mean and biased variance of each channel over a group's rows, and their gradient: the CUDA counterpart of
// bn_stats.rs.
//
// What must hold: each chunk of rows forms its own mean and sum of squared deviations in two passes over values that
// it holds in registers; chunks are merged in float64 by the formula of Chan, Golub, LeVeque (1979) for many parts at
// once, mean = Σ nᵢmᵢ/n and M₂ = Σ M₂ᵢ + Σ nᵢ(mᵢ − mean)², always in the same order. Σx² − mean² would cancel.
//
// Launch: (see rows.cuh for width, rows and tiles)
//   bn_stats_parts_S  grid (chunks, groups, tiles), block 256. A chunk has chunk_rows = 8·rows rows at most, with
//                     chunks = ⌈rows of the largest group / chunk_rows⌉; parts: groups·chunks·2·c floats.
//   bn_stats_final    grid (⌈c/32⌉, groups), block 1024.
//   bn_stats_grad_S   grid (any, groups, tiles), block 256.
// Static shared memory only.
#include "rows.cuh"

// Packs that a thread holds.
#define HELD 8

template <typename T, int V>
__device__ void parts_body(const T* __restrict__ x, const int* __restrict__ bounds, int c, int chunks, int chunk_rows,
                           float* __restrict__ parts)
{
    const Tile t = tile_of<V>(c);
    // Rows beyond what the threads hold would be lost silently.
    const bool fits = chunk_rows <= HELD * t.rows;
    for (int chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const Chunk k = chunk_of(bounds, chunk, chunk_rows);
        if (k.first >= k.end) {
            break;
        }
        Pack<T, V> held[HELD];
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            const long long r = k.first + t.row + i * t.rows;
            if (t.active && r < k.end) {
                held[i].load(x + r * c + t.channel);
            }
        }
        float mean[V], m2[V];
        chunk_moments<V, HELD>(t, k, [&](int i, int v) { return held[i].get(v); }, mean, m2);
        write_parts<V>(t, chunk, chunks, c, fits, mean, m2, parts);
    }
}

extern "C" __global__ void bn_stats_final(const float* __restrict__ parts, const int* __restrict__ bounds, int c,
                                          int chunks, int chunk_rows, float* __restrict__ mean,
                                          float* __restrict__ var)
{
    const int channel = blockIdx.x * JEMPP_WARP + threadIdx.x % JEMPP_WARP;
    const long long rows = bounds[blockIdx.y + 1] - bounds[blockIdx.y];
    const bool inside = channel < c;
    double m, m2;
    merged_moments(parts + (long long)blockIdx.y * chunks * 2 * c + channel, c, rows, chunk_rows, inside, m, m2);
    if (inside && threadIdx.x < JEMPP_WARP) {
        mean[(long long)blockIdx.y * c + channel] = (float)m;
        var[(long long)blockIdx.y * c + channel] = (float)(m2 / (double)rows);
    }
}

// dx = add + (a + b·(x − mean)) with a = dmean/n and b = 2·dvar/n; `add` may be null. dx may alias add.
template <typename T, int V>
__device__ void grad_body(const T* __restrict__ x, const float* __restrict__ mean, const float* __restrict__ dmean,
                          const float* __restrict__ dvar, const T* add, const int* __restrict__ bounds, int c, T* dx)
{
    const Tile t = tile_of<V>(c);
    const long long at = (long long)blockIdx.y * c;
    const float n = (float)(bounds[blockIdx.y + 1] - bounds[blockIdx.y]);
    float a[V], b[V], m[V];
    if (t.active) {
        for (int v = 0; v < V; v++) {
            const long long j = at + t.channel + v;
            a[v] = dmean[j] * (1.0f / n);
            b[v] = dvar[j] * (2.0f / n);
            m[v] = mean[j];
        }
    }
    Pack<T, V> in[JEMPP_AHEAD_EACH], more[JEMPP_AHEAD_EACH];
    each_pack_of_group<JEMPP_AHEAD_EACH>(
        t, bounds, c,
        [&](int k, long long from) {
            in[k].load(x + from);
            if (add) {
                more[k].load(add + from);
            }
        },
        [&](int k, long long to) {
            Pack<T, V> out;
            out.make([&](int v) {
                return (add ? more[k].get(v) : 0.0f) + (a[v] + b[v] * (in[k].get(v) - m[v]));
            });
            out.store(dx + to);
        });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(JEMPP_BLOCK)                                                          \
        bn_stats_parts_##S(const T* x, const int* bounds, int c, int chunks, int chunk_rows, float* parts)             \
    {                                                                                                                  \
        if (c % Wide<T>::V == 0) {                                                                                     \
            parts_body<T, Wide<T>::V>(x, bounds, c, chunks, chunk_rows, parts);                                        \
        } else {                                                                                                       \
            parts_body<T, 1>(x, bounds, c, chunks, chunk_rows, parts);                                                 \
        }                                                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(JEMPP_BLOCK)                                                          \
        bn_stats_grad_##S(const T* x, const float* mean, const float* dmean, const float* dvar, const T* add,          \
                          const int* bounds, int c, T* dx)                                                             \
    {                                                                                                                  \
        if (c % Wide<T>::V == 0) {                                                                                     \
            grad_body<T, Wide<T>::V>(x, mean, dmean, dvar, add, bounds, c, dx);                                        \
        } else {                                                                                                       \
            grad_body<T, 1>(x, mean, dmean, dvar, add, bounds, c, dx);                                                 \
        }                                                                                                              \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
#undef HELD
