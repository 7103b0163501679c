// Blocks that step through the rows of a rows × c matrix whose rows belong to groups: the scheme of batch norm and of
// column sums.
//
// A block of JEMPP_BLOCK threads is `width` packs of V channels wide and `rows` rows high; each thread stays on one
// pack of channels, so that per-channel coefficients stay in registers and neighbouring threads touch neighbouring
// memory. Matrices wider than a block are cut into `tiles` of equal width.
//
// What must hold: all of this is a function of c and V, never of the grid.
//   packs = c/V        tiles = ⌈packs/JEMPP_BLOCK⌉        width = ⌈packs/tiles⌉        rows = ⌊JEMPP_BLOCK/width⌋
// V is 4 (float32) or 8 (bf16) where it divides c, else 1.
//
// Launch: grid (any number of blocks, groups, tiles), block JEMPP_BLOCK. The best first size is the number of chunks
// for kernels that write parts, and for the others as many as fill the device several times over, but not more than
// there are steps of `rows` rows. `bounds` holds the first row of each group, and the number of rows at the end.
#pragma once
#include "common.cuh"

struct Tile {
    int width;   // packs in a row of the tile
    int rows;    // rows of the tile
    int row;     // this thread's row
    int channel; // first channel of this thread's pack
    bool active; // whether the thread has a pack
};

template <int V> __device__ __forceinline__ Tile tile_of(int c)
{
    const int packs = c / V;
    const int tiles = (packs + JEMPP_BLOCK - 1) / JEMPP_BLOCK;
    Tile t;
    t.width = (packs + tiles - 1) / tiles;
    t.rows = JEMPP_BLOCK / t.width;
    t.row = (int)threadIdx.x / t.width;
    const int pack = (int)blockIdx.z * t.width + (int)threadIdx.x % t.width;
    t.channel = pack * V;
    t.active = t.row < t.rows && pack < packs;
    return t;
}

// The sums of v over the rows of the tile, for each channel: a tree of fixed shape. All threads call it, inactive ones
// with zeros; all threads of a column get its sums.
template <int V> __device__ __forceinline__ void column_sums(const Tile& t, float (&v)[V])
{
    JEMPP_SHARED(float, sums, [V][JEMPP_BLOCK]);
    const int at = threadIdx.x;
    for (int i = 0; i < V; i++) {
        sums[i][at] = v[i];
    }
    __syncthreads();
    int half = 1;
    while (half < t.rows) {
        half *= 2;
    }
    for (half /= 2; half > 0; half /= 2) {
        if (t.row < half && t.row + half < t.rows) {
            for (int i = 0; i < V; i++) {
                sums[i][at] += sums[i][at + half * t.width];
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < V; i++) {
        v[i] = sums[i][at % t.width];
    }
    __syncthreads();
}

// Loads V coefficients. Where V is not 1 it divides c, so that `from`, the row of a group, begins at 16 bytes.
template <int V> __device__ __forceinline__ void load_channels(const float* from, int channel, float (&to)[V])
{
    if (V % 4 == 0) {
#pragma unroll
        for (int i = 0; i < V / 4; i++) {
            Pack<float, 4> quad;
            quad.load(from + channel + 4 * i);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                to[(4 * i + k) % V] = quad.get(k);
            }
        }
    } else {
        for (int i = 0; i < V; i++) {
            to[i] = from[channel + i];
        }
    }
}

// Rows that a thread loads before it computes with the first, to keep enough memory requests in flight: of one tensor, and
// of each of several, where more would take so many registers that fewer than three blocks fit.
#define JEMPP_AHEAD 4
#define JEMPP_AHEAD_EACH 2

// For this thread's pack of rows first + row, first + row + step, … below end: load(slot, offset of the pack) for up
// to AHEAD rows, then use(slot, offset) for the same.
template <int AHEAD, typename L, typename U>
__device__ __forceinline__ void each_pack_below(const Tile& t, long long first, long long end, long long step, int c,
                                                L load, U use)
{
    if (!t.active) {
        return;
    }
    for (long long r = first + t.row; r < end; r += AHEAD * step) {
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (r + k * step < end) {
                load(k, (r + k * step) * c + t.channel);
            }
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (r + k * step < end) {
                use(k, (r + k * step) * c + t.channel);
            }
        }
    }
}

// Like the loop above, for all rows of the block's group, distributed over gridDim.x, from the last row to the first: the
// pass before has read the same rows in ascending order, and a device's cache holds those that it read last.
template <int AHEAD, typename L, typename U>
__device__ __forceinline__ void each_pack_of_group(const Tile& t, const int* bounds, int c, L load, U use)
{
    const long long first = bounds[blockIdx.y], last = bounds[blockIdx.y + 1] - 1LL;
    const auto mirrored = [&](long long at) { return (first + last) * c + 2 * t.channel - at; };
    each_pack_below<AHEAD>(
        t, first + (long long)blockIdx.x * t.rows, last + 1, (long long)gridDim.x * t.rows, c,
        [&](int k, long long at) { load(k, mirrored(at)); }, [&](int k, long long at) { use(k, mirrored(at)); });
}

// One chunk of a group: rows first..end, at most chunk_rows of them.
struct Chunk {
    long long first, end;
};

__device__ __forceinline__ Chunk chunk_of(const int* bounds, int chunk, int chunk_rows)
{
    Chunk k;
    k.first = bounds[blockIdx.y] + (long long)chunk * chunk_rows;
    const long long end = bounds[blockIdx.y + 1];
    k.end = k.first + chunk_rows < end ? k.first + chunk_rows : end;
    return k;
}

// For a block of 32 × 32 threads, one channel per lane: Σ of the parts of `used` chunks, `stride` apart. Every thread
// gets its lane's sum. `from` is the channel's first part; it is not read where `inside` is false.
__device__ __forceinline__ double sum_of_parts(const float* from, long long stride, int used, bool inside)
{
    double sum = 0.0;
    if (inside) {
#pragma unroll 4
        for (int i = threadIdx.x / JEMPP_WARP; i < used; i += JEMPP_WARP) {
            sum += (double)from[i * stride];
        }
    }
    return across_warps(sum);
}

// Mean and sum of squared deviations from it over a chunk, for this thread's channels: in two passes over values that
// the threads hold. value(i, v) is channel v of the row that is i·rows below the thread's first one, i < HELD. All
// threads of the block call it.
template <int V, int HELD, typename F>
__device__ __forceinline__ void chunk_moments(const Tile& t, const Chunk& k, F value, float (&mean)[V], float (&m2)[V])
{
    for (int v = 0; v < V; v++) {
        m2[v] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        if (t.active && k.first + t.row + i * t.rows < k.end) {
#pragma unroll
            for (int v = 0; v < V; v++) {
                m2[v] += value(i, v);
            }
        }
    }
    column_sums<V>(t, m2);
    for (int v = 0; v < V; v++) {
        mean[v] = m2[v] / (float)(k.end - k.first);
        m2[v] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        if (t.active && k.first + t.row + i * t.rows < k.end) {
#pragma unroll
            for (int v = 0; v < V; v++) {
                const float d = value(i, v) - mean[v];
                m2[v] += d * d;
            }
        }
    }
    column_sums<V>(t, m2);
}

// Writes what a chunk gave for this thread's channels: a, then b after all channels of a. NaN unless `valid`.
template <int V>
__device__ __forceinline__ void write_parts(const Tile& t, int chunk, int chunks, int c, bool valid,
                                            const float (&a)[V], const float (&b)[V], float* __restrict__ parts)
{
    if (t.active && t.row == 0) {
        float* out = parts + ((long long)blockIdx.y * chunks + chunk) * 2 * c + t.channel;
        for (int v = 0; v < V; v++) {
            out[v] = valid ? a[v] : JEMPP_NAN;
            out[c + v] = valid ? b[v] : JEMPP_NAN;
        }
    }
}

// For a block of 32 × 32 threads, one channel per lane: mean and sum of squared deviations of `rows` rows from those of
// their chunks, by the formula of Chan, Golub, LeVeque (1979) for many parts at once. Every thread gets its lane's.
__device__ __forceinline__ void merged_moments(const float* __restrict__ from, int c, long long rows, int chunk_rows,
                                               bool inside, double& mean, double& m2)
{
    const int slice = threadIdx.x / JEMPP_WARP;
    const int used = (int)((rows + chunk_rows - 1) / chunk_rows);
    double m = 0.0;
    if (inside) {
#pragma unroll 4
        for (int i = slice; i < used; i += JEMPP_WARP) {
            const long long left = rows - (long long)i * chunk_rows;
            m += (double)(left < chunk_rows ? left : chunk_rows) * (double)from[(long long)i * 2 * c];
        }
    }
    m = across_warps(m);
    mean = rows > 0 ? m / (double)rows : 0.0;
    double sum = 0.0;
    if (inside) {
#pragma unroll 4
        for (int i = slice; i < used; i += JEMPP_WARP) {
            const long long left = rows - (long long)i * chunk_rows;
            const double d = (double)from[(long long)i * 2 * c] - mean;
            sum += (double)from[((long long)i * 2 + 1) * c] + (double)(left < chunk_rows ? left : chunk_rows) * d * d;
        }
    }
    m2 = across_warps(sum);
}
