// Sums over rows and over everything, and their transposes: the CUDA counterpart of reduce.rs.
//
// What must hold: sums are formed per chunk in a fixed order and added over chunks in float64, so results do not
// depend on the grid. Sums come out in float32.
//
// Launch:
//   sum_rows_parts_S  grid (chunks, 1, tiles), block 256 (see rows.cuh); `bounds` is {0, rows}; chunk_rows is free,
//                     32·rows of the tile is good; parts: chunks·c floats
//   sum_rows_final    grid ⌈c/32⌉, block 1024
//   sum_all_parts_S   grid (any; best ⌈n/8192⌉), block 256; parts: ⌈n/8192⌉ doubles
//   sum_all_final     grid 1, block 1024
//   sum_all_S         grid 1, block 256: both at once, for one chunk
//   row_dot_S         any grid, block whole warps; best rows/4 blocks of 128
//   broadcast_rows_S, mul_rows_S, spread_S   any grid, block 256
// Static shared memory only.
#include "rows.cuh"

#define SUM_ALL_CHUNK 8192

template <typename T, int V>
__device__ void sum_rows_body(const T* __restrict__ x, const int* __restrict__ bounds, int c, int chunks,
                              int chunk_rows, float* __restrict__ parts)
{
    const Tile t = tile_of<V>(c);
    for (int chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const Chunk r = chunk_of(bounds, chunk, chunk_rows);
        float sum[V];
        for (int v = 0; v < V; v++) {
            sum[v] = 0.0f;
        }
        Pack<T, V> in[JEMPP_AHEAD];
        each_pack_below<JEMPP_AHEAD>(
            t, r.first, r.end, t.rows, c, [&](int i, long long from) { in[i].load(x + from); },
            [&](int i, long long) {
#pragma unroll
                for (int v = 0; v < V; v++) {
                    sum[v] += in[i].get(v);
                }
            });
        column_sums<V>(t, sum);
        if (t.active && t.row == 0) {
            for (int v = 0; v < V; v++) {
                parts[(long long)chunk * c + t.channel + v] = sum[v];
            }
        }
    }
}

extern "C" __global__ void sum_rows_final(const float* __restrict__ parts, int c, int chunks, float* __restrict__ out)
{
    const int channel = blockIdx.x * JEMPP_WARP + threadIdx.x % JEMPP_WARP;
    const double sum = sum_of_parts(parts + channel, c, chunks, channel < c);
    if (channel < c && threadIdx.x < JEMPP_WARP) {
        out[channel] = (float)sum;
    }
}

// Σ x from element `first` to `end`, by a whole block; the first thread gets it.
template <typename T> __device__ double sum_of_chunk(const T* __restrict__ x, long long first, long long end)
{
    JEMPP_SHARED(double, sums, [JEMPP_BLOCK / JEMPP_WARP]);
    double sum = 0.0;
    for (long long i = first + threadIdx.x; i < end; i += JEMPP_BLOCK) {
        sum += (double)to_float(x[i]);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % JEMPP_WARP == 0) {
        sums[threadIdx.x / JEMPP_WARP] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < JEMPP_BLOCK / JEMPP_WARP; w++) {
            sum += sums[w];
        }
    }
    __syncthreads();
    return sum;
}

template <typename T> __device__ void sum_all_body(const T* __restrict__ x, long long n, double* __restrict__ parts)
{
    const long long chunks = (n + SUM_ALL_CHUNK - 1) / SUM_ALL_CHUNK;
    for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const long long first = chunk * SUM_ALL_CHUNK;
        const long long end = first + SUM_ALL_CHUNK < n ? first + SUM_ALL_CHUNK : n;
        const double sum = sum_of_chunk(x, first, end);
        if (threadIdx.x == 0) {
            parts[chunk] = sum;
        }
    }
}

// out = factor · Σ parts.
extern "C" __global__ void sum_all_final(const double* __restrict__ parts, long long chunks, double factor,
                                         float* __restrict__ out)
{
    double sum = 0.0;
    for (long long i = threadIdx.x; i < chunks; i += JEMPP_WARP * JEMPP_WARP) {
        sum += parts[i];
    }
    sum = warp_sum(across_warps(sum));
    if (threadIdx.x == 0) {
        *out = (float)(factor * sum);
    }
}

// out[r] = Σ_c x[r, c]·y[r, c], one warp per row.
template <typename T>
__device__ void row_dot_body(const T* __restrict__ x, const T* __restrict__ y, long long rows, long long c,
                             float* __restrict__ out)
{
    const long long warps_a_block = blockDim.x / JEMPP_WARP;
    const long long warps = gridDim.x * warps_a_block;
    for (long long r = blockIdx.x * warps_a_block + threadIdx.x / JEMPP_WARP; r < rows; r += warps) {
        float sum = 0.0f;
        for (long long j = threadIdx.x % JEMPP_WARP; j < c; j += JEMPP_WARP) {
            sum += to_float(x[r * c + j]) * to_float(y[r * c + j]);
        }
        sum = warp_sum(sum);
        if (threadIdx.x % JEMPP_WARP == 0) {
            out[r] = sum;
        }
    }
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(JEMPP_BLOCK)                                                          \
        sum_rows_parts_##S(const T* x, const int* bounds, int c, int chunks, int chunk_rows, float* parts)             \
    {                                                                                                                  \
        if (c % Wide<T>::V == 0) {                                                                                     \
            sum_rows_body<T, Wide<T>::V>(x, bounds, c, chunks, chunk_rows, parts);                                     \
        } else {                                                                                                       \
            sum_rows_body<T, 1>(x, bounds, c, chunks, chunk_rows, parts);                                              \
        }                                                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void sum_all_parts_##S(const T* x, long long n, double* parts) { sum_all_body(x, n, parts); } \
    extern "C" __global__ void sum_all_##S(const T* x, long long n, double factor, float* out)                         \
    {                                                                                                                  \
        const double sum = sum_of_chunk(x, 0, n);                                                                      \
        if (threadIdx.x == 0) {                                                                                        \
            *out = (float)(factor * sum);                                                                              \
        }                                                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void row_dot_##S(const T* x, const T* y, long long rows, long long c, float* out)            \
    {                                                                                                                  \
        row_dot_body(x, y, rows, c, out);                                                                              \
    }                                                                                                                  \
    /* out[r, c] = v[c] */                                                                                             \
    extern "C" __global__ void broadcast_rows_##S(const float* v, long long rows, long long c, T* out)                 \
    {                                                                                                                  \
        each_run<1>(rows * c, [&](long long i, int) { out[i] = from_float<T>(v[i % c]); });                            \
    }                                                                                                                  \
    /* out[r, c] = x[r, c]·v[r] */                                                                                     \
    extern "C" __global__ void mul_rows_##S(const T* x, const float* v, long long rows, long long c, T* out)           \
    {                                                                                                                  \
        each_run<1>(rows * c, [&](long long i, int) { out[i] = from_float<T>(to_float(x[i]) * v[i / c]); });           \
    }                                                                                                                  \
    /* out[i] = factor · s */                                                                                          \
    extern "C" __global__ void spread_##S(const float* s, float factor, long long n, T* out)                           \
    {                                                                                                                  \
        const T v = from_float<T>(s[0] * factor);                                                                      \
        each_run<1>(n, [&](long long i, int) { out[i] = v; });                                                         \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
#undef SUM_ALL_CHUNK
