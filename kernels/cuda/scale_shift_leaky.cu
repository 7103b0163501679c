// y = leaky((x − mean)·scale + shift) with mean and scale of the row's group, and its gradients: the CUDA counterpart
// of scale_shift_leaky.rs.
//
// What must hold: the deviation from the mean is formed first, so that Σ dz·(x − mean) does not cancel; the slope at
// zero is the leak. z is formed in the same way everywhere. Elementwise results do not depend on the grid; sums are formed per chunk of rows in a fixed order
// and added over chunks in float64.
//
// Launch: (see rows.cuh)
//   scale_shift_leaky_S            grid (any, groups, tiles), block 256
//   scale_shift_leaky_grad_S       as above
//   scale_shift_leaky_sums_S       grid (chunks, groups, tiles), block 256; chunk_rows is free, a few times rows is good;
//                                  parts: groups·chunks·2·c floats, chunks = ⌈rows of the largest group / chunk_rows⌉
//   scale_shift_leaky_sums_final   grid (⌈c/32⌉, groups), block 1024
// `per_group` is c where mean and scale are [groups, c], and 0 where [c] is common to all groups. Static shared memory only.
#include "rows.cuh"

// The coefficients of this thread's channels.
template <int V> struct Coeffs {
    float mean[V], scale[V], shift[V];
    __device__ __forceinline__ void load(const Tile& t, const float* m, const float* a, const float* b, int per_group)
    {
        if (t.active) {
            const long long at = (long long)blockIdx.y * per_group;
            load_channels<V>(m + at, t.channel, mean);
            load_channels<V>(a + at, t.channel, scale);
            load_channels<V>(b, t.channel, shift);
        }
    }
};

template <typename T, int V>
__device__ void forward_body(const T* x, const float* __restrict__ mean, const float* __restrict__ scale,
                             const float* __restrict__ shift, const int* __restrict__ bounds, int c, int per_group,
                             float leak, T* y)
{
    const Tile t = tile_of<V>(c);
    Coeffs<V> k;
    k.load(t, mean, scale, shift, per_group);
    Pack<T, V> in[JEMPP_AHEAD];
    each_pack_of_group<JEMPP_AHEAD>(
        t, bounds, c, [&](int i, long long from) { in[i].load(x + from); },
        [&](int i, long long to) {
            Pack<T, V> out;
            out.make([&](int v) {
                const float z = multiply_add<T>(in[i].get(v) - k.mean[v], k.scale[v], k.shift[v]);
                return z < 0.0f ? z * leak : z;
            });
            out.store(y + to);
        });
}

// dx = add + ((dz·scale + dmean/n) + (2·dvar/n)·(x − mean)), dz = leaky'(z)·dy. `add`, and `dmean` with `dvar`, may be
// null, which stands for zeros. dx may alias x, dy or add.
template <typename T, int V>
__device__ void grad_body(const T* x, const T* dy, const float* __restrict__ mean, const float* __restrict__ scale,
                          const float* __restrict__ shift, const float* __restrict__ dmean,
                          const float* __restrict__ dvar, const T* add, const int* __restrict__ bounds, int c,
                          int per_group, float leak, T* dx)
{
    const Tile t = tile_of<V>(c);
    Coeffs<V> k;
    k.load(t, mean, scale, shift, per_group);
    const float n = (float)(bounds[blockIdx.y + 1] - bounds[blockIdx.y]);
    float a[V], b[V];
    if (t.active && dmean) {
        load_channels<V>(dmean + (long long)blockIdx.y * c, t.channel, a);
        load_channels<V>(dvar + (long long)blockIdx.y * c, t.channel, b);
        const float one = 1.0f / n, two = 2.0f / n;
#pragma unroll
        for (int v = 0; v < V; v++) {
            a[v] *= one;
            b[v] *= two;
        }
    }
    // Three tensors and five coefficients: one row at a time, so that three blocks fit.
    Pack<T, V> in[1], up[1], more[1];
    each_pack_of_group<1>(
        t, bounds, c,
        [&](int i, long long from) {
            in[i].load(x + from);
            up[i].load(dy + from);
            if (add) {
                more[i].load(add + from);
            }
        },
        [&](int i, long long to) {
            Pack<T, V> out;
            out.make([&](int v) {
                const float d = in[i].get(v) - k.mean[v];
                const float z = multiply_add<T>(d, k.scale[v], k.shift[v]);
                const float g = up[i].get(v);
                const float dz = z > 0.0f ? g : g * leak;
                const float own = dmean ? multiply_add<T>(b[v], d, multiply_add<T>(dz, k.scale[v], a[v]))
                                        : dz * k.scale[v];
                return (add ? more[i].get(v) : 0.0f) + own;
            });
            out.store(dx + to);
        });
}

// Of each chunk and channel: Σ dz·(x − mean), then Σ dz.
template <typename T, int V>
__device__ void sums_body(const T* __restrict__ x, const T* __restrict__ dy, const float* __restrict__ mean,
                          const float* __restrict__ scale, const float* __restrict__ shift,
                          const int* __restrict__ bounds, int c, int per_group, float leak, int chunks, int chunk_rows,
                          float* __restrict__ parts)
{
    const Tile t = tile_of<V>(c);
    Coeffs<V> k;
    k.load(t, mean, scale, shift, per_group);
    for (int chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const Chunk r = chunk_of(bounds, chunk, chunk_rows);
        if (r.first >= r.end) {
            break;
        }
        float dscale[V], dshift[V];
        for (int v = 0; v < V; v++) {
            dscale[v] = dshift[v] = 0.0f;
        }
        Pack<T, V> in[JEMPP_AHEAD_EACH], up[JEMPP_AHEAD_EACH];
        each_pack_below<JEMPP_AHEAD_EACH>(
            t, r.first, r.end, t.rows, c,
            [&](int i, long long from) {
                in[i].load(x + from);
                up[i].load(dy + from);
            },
            [&](int i, long long) {
#pragma unroll
                for (int v = 0; v < V; v++) {
                    const float d = in[i].get(v) - k.mean[v];
                    const float z = multiply_add<T>(d, k.scale[v], k.shift[v]);
                    const float g = up[i].get(v);
                    const float dz = z > 0.0f ? g : g * leak;
                    dscale[v] = multiply_add<T>(dz, d, dscale[v]);
                    dshift[v] += dz;
                }
            });
        column_sums<V>(t, dscale);
        column_sums<V>(t, dshift);
        write_parts<V>(t, chunk, chunks, c, true, dscale, dshift, parts);
    }
}

extern "C" __global__ void scale_shift_leaky_sums_final(const float* __restrict__ parts,
                                                        const int* __restrict__ bounds, int c, int chunks,
                                                        int chunk_rows, float* __restrict__ dscale,
                                                        float* __restrict__ dshift)
{
    const int channel = blockIdx.x * JEMPP_WARP + threadIdx.x % JEMPP_WARP;
    const int rows = bounds[blockIdx.y + 1] - bounds[blockIdx.y];
    const int used = (int)(((long long)rows + chunk_rows - 1) / chunk_rows);
    const float* from = parts + (long long)blockIdx.y * chunks * 2 * c + channel;
    const double a = sum_of_parts(from, 2LL * c, used, channel < c);
    const double b = sum_of_parts(from + c, 2LL * c, used, channel < c);
    if (channel < c && threadIdx.x < JEMPP_WARP) {
        dscale[(long long)blockIdx.y * c + channel] = (float)a;
        dshift[(long long)blockIdx.y * c + channel] = (float)b;
    }
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(JEMPP_BLOCK, 3)                                                          \
        scale_shift_leaky_##S(const T* x, const float* mean, const float* scale, const float* shift,                   \
                              const int* bounds, int c, int per_group, float leak, T* y)                               \
    {                                                                                                                  \
        if (c % Wide<T>::V == 0) {                                                                                     \
            forward_body<T, Wide<T>::V>(x, mean, scale, shift, bounds, c, per_group, leak, y);                         \
        } else {                                                                                                       \
            forward_body<T, 1>(x, mean, scale, shift, bounds, c, per_group, leak, y);                                  \
        }                                                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(JEMPP_BLOCK, 3)                                                          \
        scale_shift_leaky_grad_##S(const T* x, const T* dy, const float* mean, const float* scale, const float* shift, \
                                   const float* dmean, const float* dvar, const T* add, const int* bounds, int c,      \
                                   int per_group, float leak, T* dx)                                                   \
    {                                                                                                                  \
        if (c % Wide<T>::V == 0) {                                                                                     \
            grad_body<T, Wide<T>::V>(x, dy, mean, scale, shift, dmean, dvar, add, bounds, c, per_group, leak, dx);     \
        } else {                                                                                                       \
            grad_body<T, 1>(x, dy, mean, scale, shift, dmean, dvar, add, bounds, c, per_group, leak, dx);              \
        }                                                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(JEMPP_BLOCK, 3)                                                          \
        scale_shift_leaky_sums_##S(const T* x, const T* dy, const float* mean, const float* scale, const float* shift, \
                                   const int* bounds, int c, int per_group, float leak, int chunks, int chunk_rows,    \
                                   float* parts)                                                                       \
    {                                                                                                                  \
        if (c % Wide<T>::V == 0) {                                                                                     \
            sums_body<T, Wide<T>::V>(x, dy, mean, scale, shift, bounds, c, per_group, leak, chunks, chunk_rows,        \
                                     parts);                                                                           \
        } else {                                                                                                       \
            sums_body<T, 1>(x, dy, mean, scale, shift, bounds, c, per_group, leak, chunks, chunk_rows, parts);         \
        }                                                                                                              \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
