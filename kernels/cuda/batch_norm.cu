// Batch norm of a residual sum: what bn_stats.cu and scale_shift_leaky.cu do not have. The CUDA counterpart of
// batch_norm.rs.
//
// What must hold: the statistics are those of the sum before it is rounded to its type; parts are merged as in
// bn_stats.cu, in float64 and in order; gamma's and beta's gradients add the groups in order.
//
// Launch: (see rows.cuh)
//   batch_norm_sum_parts_S  grid (chunks, groups, tiles), block 256: y = x + add, and the moments of y's chunks; a chunk
//                           has chunk_rows = 4·rows rows at most; parts as in bn_stats.cu. y may be x or add.
//   batch_norm_final        grid (⌈c/32⌉, groups), block 1024: mean, variance and gamma/√(variance + eps)
//   batch_norm_grad_final   grid ⌈c/32⌉, block 1024: from the parts of scale_shift_leaky_sums_S the gradients of each
//                           group's mean and variance, and of gamma and beta
// Around a library's batch norm, which works group by group and keeps mean and 1/√(variance + eps); its values of one
// group begin `step` floats after those of the group before:
//   batch_norm_saved        any grid, block 256: mean, variance and scale of all groups from what the library has kept
//   batch_norm_kept         any grid, block 256: the other way round
//   batch_norm_rectified_S  grid (any, groups, tiles), block 256: the gradient of h = leaky(z) with respect to z, which is
//                           formed from x as in scale_shift_leaky.cu. dz may be dh
//   batch_norm_add_groups   any grid, block 256: the sums over groups, in order, of the gradients of gamma and beta
// Static shared memory only.
#include "rows.cuh"

// Packs of either summand that a thread holds.
#define HELD 4

template <typename T, int V>
__device__ void sum_parts_body(const T* x, const T* add, const int* __restrict__ bounds, int c, int chunks,
                               int chunk_rows, T* y, float* __restrict__ parts)
{
    const Tile t = tile_of<V>(c);
    // Rows beyond what the threads hold would be lost silently.
    const bool fits = chunk_rows <= HELD * t.rows;
    for (int chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const Chunk k = chunk_of(bounds, chunk, chunk_rows);
        if (k.first >= k.end) {
            break;
        }
        Pack<T, V> a[HELD], b[HELD];
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            const long long r = k.first + t.row + i * t.rows;
            if (t.active && r < k.end) {
                a[i].load(x + r * c + t.channel);
                b[i].load(add + r * c + t.channel);
            }
        }
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            const long long r = k.first + t.row + i * t.rows;
            if (t.active && r < k.end) {
                Pack<T, V> sum;
                sum.make([&](int v) { return a[i].get(v) + b[i].get(v); });
                sum.store(y + r * c + t.channel);
            }
        }
        float mean[V], m2[V];
        chunk_moments<V, HELD>(t, k, [&](int i, int v) { return a[i].get(v) + b[i].get(v); }, mean, m2);
        write_parts<V>(t, chunk, chunks, c, fits, mean, m2, parts);
    }
}

extern "C" __global__ void batch_norm_final(const float* __restrict__ parts, const int* __restrict__ bounds,
                                            const float* __restrict__ gamma, int c, int chunks, int chunk_rows,
                                            float eps, float* __restrict__ mean, float* __restrict__ var,
                                            float* __restrict__ scale)
{
    const int channel = blockIdx.x * JEMPP_WARP + threadIdx.x % JEMPP_WARP;
    const long long rows = bounds[blockIdx.y + 1] - bounds[blockIdx.y];
    const bool inside = channel < c;
    double m, m2;
    merged_moments(parts + (long long)blockIdx.y * chunks * 2 * c + channel, c, rows, chunk_rows, inside, m, m2);
    if (inside && threadIdx.x < JEMPP_WARP) {
        const long long at = (long long)blockIdx.y * c + channel;
        const float v = (float)(m2 / (double)rows);
        mean[at] = (float)m;
        var[at] = v;
        scale[at] = gamma[channel] / sqrtf(v + eps);
    }
}

extern "C" __global__ void batch_norm_grad_final(const float* __restrict__ parts, const int* __restrict__ bounds,
                                                 const float* __restrict__ var, const float* __restrict__ scale,
                                                 const float* __restrict__ gamma, int groups, int c, int chunks,
                                                 int chunk_rows, float eps, float* __restrict__ dmean,
                                                 float* __restrict__ dvar, float* __restrict__ dgamma,
                                                 float* __restrict__ dbeta)
{
    const int channel = blockIdx.x * JEMPP_WARP + threadIdx.x % JEMPP_WARP;
    const bool inside = channel < c;
    float of_gamma = 0.0f, of_beta = 0.0f;
    for (int g = 0; g < groups; g++) {
        const long long rows = bounds[g + 1] - bounds[g];
        const int used = (int)((rows + chunk_rows - 1) / chunk_rows);
        const float* from = parts + (long long)g * chunks * 2 * c + channel;
        const float dscale = (float)sum_of_parts(from, 2LL * c, used, inside);
        const float dshift = (float)sum_of_parts(from + c, 2LL * c, used, inside);
        if (inside && threadIdx.x < JEMPP_WARP) {
            const long long at = (long long)g * c + channel;
            const float v = var[at] + eps;
            const float inv = 1.0f / sqrtf(v);
            of_gamma += dscale * inv;
            of_beta += dshift;
            dvar[at] = -0.5f * dscale * gamma[channel] * inv / v;
            dmean[at] = -(scale[at] * dshift);
        }
    }
    if (inside && threadIdx.x < JEMPP_WARP) {
        dgamma[channel] = of_gamma;
        dbeta[channel] = of_beta;
    }
}

extern "C" __global__ void batch_norm_saved(const float* __restrict__ means, const float* __restrict__ inverses,
                                            const float* __restrict__ gamma, int c, int groups, int step, float eps,
                                            float* __restrict__ mean, float* __restrict__ var,
                                            float* __restrict__ scale)
{
    each_run<1>((long long)groups * c, [&](long long i, int) {
        const long long from = i / c * step + i % c;
        const double inverse = (double)inverses[from];
        const double v = 1.0 / (inverse * inverse) - (double)eps;
        mean[i] = means[from];
        // Not fmax, which would hide NaN.
        var[i] = v < 0.0 ? 0.0f : (float)v;
        scale[i] = gamma[i % c] * inverses[from];
    });
}

extern "C" __global__ void batch_norm_kept(const float* __restrict__ mean, const float* __restrict__ var, int c,
                                           int groups, int step, float eps, float* __restrict__ means,
                                           float* __restrict__ inverses)
{
    each_run<1>((long long)groups * c, [&](long long i, int) {
        const long long to = i / c * step + i % c;
        means[to] = mean[i];
        inverses[to] = 1.0f / sqrtf(var[i] + eps);
    });
}

extern "C" __global__ void batch_norm_add_groups(const float* __restrict__ dgammas, const float* __restrict__ dbetas,
                                                 int c, int groups, int step, float* __restrict__ dgamma,
                                                 float* __restrict__ dbeta)
{
    each_run<1>(c, [&](long long i, int) {
        float of_gamma = 0.0f, of_beta = 0.0f;
        for (int g = 0; g < groups; g++) {
            of_gamma += dgammas[(long long)g * step + i];
            of_beta += dbetas[(long long)g * step + i];
        }
        dgamma[i] = of_gamma;
        dbeta[i] = of_beta;
    });
}

template <typename T, int V>
__device__ void rectified_body(const T* x, const T* dh, const float* __restrict__ mean,
                               const float* __restrict__ scale, const float* __restrict__ beta,
                               const int* __restrict__ bounds, int c, float leak, T* dz)
{
    const Tile t = tile_of<V>(c);
    float m[V], a[V], b[V];
    if (t.active) {
        load_channels<V>(mean + (long long)blockIdx.y * c, t.channel, m);
        load_channels<V>(scale + (long long)blockIdx.y * c, t.channel, a);
        load_channels<V>(beta, t.channel, b);
    }
    Pack<T, V> in[JEMPP_AHEAD_EACH], up[JEMPP_AHEAD_EACH];
    each_pack_of_group<JEMPP_AHEAD_EACH>(
        t, bounds, c,
        [&](int i, long long from) {
            in[i].load(x + from);
            up[i].load(dh + from);
        },
        [&](int i, long long to) {
            Pack<T, V> out;
            out.make([&](int v) {
                const float z = multiply_add<T>(in[i].get(v) - m[v], a[v], b[v]);
                const float g = up[i].get(v);
                return z > 0.0f ? g : g * leak;
            });
            out.store(dz + to);
        });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(JEMPP_BLOCK)                                                          \
        batch_norm_sum_parts_##S(const T* x, const T* add, const int* bounds, int c, int chunks, int chunk_rows, T* y, \
                                 float* parts)                                                                         \
    {                                                                                                                  \
        if (c % Wide<T>::V == 0) {                                                                                     \
            sum_parts_body<T, Wide<T>::V>(x, add, bounds, c, chunks, chunk_rows, y, parts);                            \
        } else {                                                                                                       \
            sum_parts_body<T, 1>(x, add, bounds, c, chunks, chunk_rows, y, parts);                                     \
        }                                                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(JEMPP_BLOCK, 3)                                                       \
        batch_norm_rectified_##S(const T* x, const T* dh, const float* mean, const float* scale, const float* beta,    \
                                 const int* bounds, int c, float leak, T* dz)                                          \
    {                                                                                                                  \
        if (c % Wide<T>::V == 0) {                                                                                     \
            rectified_body<T, Wide<T>::V>(x, dh, mean, scale, beta, bounds, c, leak, dz);                              \
        } else {                                                                                                       \
            rectified_body<T, 1>(x, dh, mean, scale, beta, bounds, c, leak, dz);                                       \
        }                                                                                                              \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
#undef HELD
