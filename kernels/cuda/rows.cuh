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

// Loads V coefficients.
template <int V> __device__ __forceinline__ void load_channels(const float* from, int channel, float (&to)[V])
{
    for (int i = 0; i < V; i++) {
        to[i] = from[channel + i];
    }
}

// Rows that a thread loads before it computes with the first, to keep enough memory requests in flight.
#define JEMPP_AHEAD 4

// For this thread's pack of rows first + row, first + row + step, … below end: load(slot, offset of the pack) for up
// to JEMPP_AHEAD rows, then use(slot, offset) for the same.
template <typename L, typename U>
__device__ __forceinline__ void each_pack_below(const Tile& t, long long first, long long end, long long step, int c,
                                                L load, U use)
{
    if (!t.active) {
        return;
    }
    for (long long r = first + t.row; r < end; r += JEMPP_AHEAD * step) {
#pragma unroll
        for (int k = 0; k < JEMPP_AHEAD; k++) {
            if (r + k * step < end) {
                load(k, (r + k * step) * c + t.channel);
            }
        }
#pragma unroll
        for (int k = 0; k < JEMPP_AHEAD; k++) {
            if (r + k * step < end) {
                use(k, (r + k * step) * c + t.channel);
            }
        }
    }
}

// Like the loop above, for all rows of the block's group, distributed over gridDim.x.
template <typename L, typename U>
__device__ __forceinline__ void each_pack_of_group(const Tile& t, const int* bounds, int c, L load, U use)
{
    const long long first = bounds[blockIdx.y] + (long long)blockIdx.x * t.rows;
    each_pack_below(t, first, bounds[blockIdx.y + 1], (long long)gridDim.x * t.rows, c, load, use);
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
