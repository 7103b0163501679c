// Conversions of element type and of axis order.
//
// What must hold: float32 to bf16 rounds to nearest, ties to even; a NaN stays a NaN of the same sign; bf16 to float32
// is exact. N×H×W×C ↔ N×C×H×W and K×R×S×C ↔ K×C×R×S are the same operation: a transposition of the last two axes of
// n×a×b, with (a, b) = (pixels, channels) one way and (channels, pixels) back.
//
// Launch:
//   cast_bf16 (from float32), cast_f32 (from bf16)   any grid, block 256; enough threads for n/4 quads is best
//   cast_transpose_S   grid (⌈b/32⌉, ⌈a/32⌉, n), block 256: n×a×b → n×b×a. Static shared memory only.
#include "common.cuh"

template <typename A, typename B, int V> __device__ __forceinline__ void cast_pack(const A* x, B* out)
{
    Pack<A, V> in;
    Pack<B, V> to;
    in.load(x);
#pragma unroll
    for (int v = 0; v < V; v++) {
        to.set(v, in.get(v));
    }
    to.store(out);
}

template <typename A, typename B> __device__ void cast_body(const A* __restrict__ x, B* __restrict__ out, long long n)
{
    each_pack<4>(
        n, [&](long long i) { cast_pack<A, B, 4>(x + i, out + i); },
        [&](long long i) { cast_pack<A, B, 1>(x + i, out + i); });
}

extern "C" __global__ void cast_bf16(const float* x, bf16* out, long long n) { cast_body(x, out, n); }

extern "C" __global__ void cast_f32(const bf16* x, float* out, long long n) { cast_body(x, out, n); }

template <typename T>
__device__ void transpose_body(const T* __restrict__ x, T* __restrict__ out, long long n, int a, int b)
{
    JEMPP_SHARED(T, tile, [JEMPP_WARP][JEMPP_WARP + 1]);
    const int lane = threadIdx.x % JEMPP_WARP, warp = threadIdx.x / JEMPP_WARP;
    const int row = blockIdx.y * JEMPP_WARP, col = blockIdx.x * JEMPP_WARP;
    for (long long i = blockIdx.z; i < n; i += gridDim.z) {
        for (int r = warp; r < JEMPP_WARP; r += JEMPP_BLOCK / JEMPP_WARP) {
            if (row + r < a && col + lane < b) {
                tile[r][lane] = x[(i * a + row + r) * b + col + lane];
            }
        }
        __syncthreads();
        for (int r = warp; r < JEMPP_WARP; r += JEMPP_BLOCK / JEMPP_WARP) {
            if (col + r < b && row + lane < a) {
                out[(i * b + col + r) * a + row + lane] = tile[lane][r];
            }
        }
        __syncthreads();
    }
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void cast_transpose_##S(const T* x, T* out, long long n, int a, int b)                       \
    {                                                                                                                  \
        transpose_body(x, out, n, a, b);                                                                               \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
