// Used by every kernel: what the run-time compiler does not define, bf16, 16-byte vectors, and reductions.
//
// What must hold:
// - Nothing here needs a CUDA or host header, so that the same source compiles for a device and, for tests, for a CPU.
//   A device compiles it with --fmad=false: a fused multiply-add happens only where __fmaf_rn is written.
// - Reductions are butterflies or trees of a fixed shape, so a result depends on the numbers alone, never on timing.
//   There are no floating-point atomics anywhere.
// - Warp reductions are called by all 32 lanes together, block reductions by all threads of the block.
// - Buffers begin at multiples of 16 bytes.
#pragma once

#define JEMPP_WARP 32
#define JEMPP_ALL_LANES 0xffffffffu
#define JEMPP_INF __int_as_float(0x7f800000)
#define JEMPP_NAN __int_as_float(0x7fc00000)
// Threads per block, unless a kernel says otherwise.
#define JEMPP_BLOCK 256

#ifndef JEMPP_EMULATED
// Checked when the tests run kernels on a CPU; a device faults by itself.
#define JEMPP_CHECK_ALIGNED(pointer, bytes)
// Shared memory: static, as in JEMPP_SHARED(float, name, [4][64]), or of the size given at launch.
#define JEMPP_SHARED(type, name, sizes) __shared__ type name sizes
#define JEMPP_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

// Addresses that a kernel for many tensors gets by value, as (const __grid_constant__ Pointers p, …): those of tensor 0,
// then those of tensor 1, and so on; 0 is a null pointer.
struct Pointers {
    unsigned long long at[384];
};

// ---- bf16: the upper half of a float32 -------------------------------------------------------------------------

struct bf16 {
    unsigned short bits;
};

__device__ __forceinline__ float to_float(float v) { return v; }

__device__ __forceinline__ float to_float(bf16 v) { return __int_as_float((int)((unsigned)v.bits << 16)); }

// To nearest, ties to even; a NaN keeps its sign and upper payload and becomes quiet.
__device__ __forceinline__ unsigned bf16_bits(float v)
{
    const unsigned bits = (unsigned)__float_as_int(v);
    const unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return v == v ? rounded : (bits >> 16) | 0x40u;
}

template <typename T> __device__ __forceinline__ T from_float(float v);
template <> __device__ __forceinline__ float from_float<float>(float v) { return v; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float v)
{
    bf16 r;
    r.bits = (unsigned short)bf16_bits(v);
    return r;
}

// ---- Packs: V neighbouring elements, loaded and stored at once -----------------------------------------------------

// V neighbouring elements as floats, and their layout in memory. V times the element's size is 16 bytes, or 8, or V
// is 1. make(f) sets all of them, element i to f(i).
template <typename T, int V> struct Pack;

template <typename T> struct Pack<T, 1> {
    T raw;
    __device__ __forceinline__ void load(const T* p) { raw = *p; }
    __device__ __forceinline__ void store(T* p) const { *p = raw; }
    __device__ __forceinline__ float get(int) const { return to_float(raw); }
    __device__ __forceinline__ void set(int, float v) { raw = from_float<T>(v); }
    template <typename F> __device__ __forceinline__ void make(F f) { raw = from_float<T>(f(0)); }
};

template <> struct Pack<float, 4> {
    float4 raw;
    __device__ __forceinline__ void load(const float* p)
    {
        JEMPP_CHECK_ALIGNED(p, 16);
        raw = *(const float4*)p;
    }
    __device__ __forceinline__ void store(float* p) const
    {
        JEMPP_CHECK_ALIGNED(p, 16);
        *(float4*)p = raw;
    }
    __device__ __forceinline__ float get(int i) const { return i == 0 ? raw.x : i == 1 ? raw.y : i == 2 ? raw.z : raw.w; }
    __device__ __forceinline__ void set(int i, float v) { (i == 0 ? raw.x : i == 1 ? raw.y : i == 2 ? raw.z : raw.w) = v; }
    template <typename F> __device__ __forceinline__ void make(F f)
    {
        raw.x = f(0);
        raw.y = f(1);
        raw.z = f(2);
        raw.w = f(3);
    }
};

// The lower half of a word is the element before the upper half.
__device__ __forceinline__ float half_of(unsigned word, int upper)
{
    return __int_as_float((int)(upper ? word & 0xffff0000u : word << 16));
}

__device__ __forceinline__ unsigned with_half(unsigned word, int upper, float v)
{
    return upper ? (word & 0xffffu) | (bf16_bits(v) << 16) : (word & 0xffff0000u) | bf16_bits(v);
}

// Two neighbours as one word. A device converts both in one instruction, which makes every NaN 0x7fff.
__device__ __forceinline__ unsigned bf16_pair(float lower, float upper)
{
#ifdef JEMPP_EMULATED
    return bf16_bits(lower) | bf16_bits(upper) << 16;
#else
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(upper), "f"(lower));
    return pair;
#endif
}

template <> struct Pack<bf16, 8> {
    uint4 raw;
    __device__ __forceinline__ void load(const bf16* p)
    {
        JEMPP_CHECK_ALIGNED(p, 16);
        raw = *(const uint4*)p;
    }
    __device__ __forceinline__ void store(bf16* p) const
    {
        JEMPP_CHECK_ALIGNED(p, 16);
        *(uint4*)p = raw;
    }
    __device__ __forceinline__ float get(int i) const
    {
        return half_of(i < 2 ? raw.x : i < 4 ? raw.y : i < 6 ? raw.z : raw.w, i & 1);
    }
    __device__ __forceinline__ void set(int i, float v)
    {
        unsigned& word = i < 2 ? raw.x : i < 4 ? raw.y : i < 6 ? raw.z : raw.w;
        word = with_half(word, i & 1, v);
    }
    template <typename F> __device__ __forceinline__ void make(F f)
    {
        raw.x = bf16_pair(f(0), f(1));
        raw.y = bf16_pair(f(2), f(3));
        raw.z = bf16_pair(f(4), f(5));
        raw.w = bf16_pair(f(6), f(7));
    }
};

template <> struct Pack<bf16, 4> {
    uint2 raw;
    __device__ __forceinline__ void load(const bf16* p)
    {
        JEMPP_CHECK_ALIGNED(p, 8);
        raw = *(const uint2*)p;
    }
    __device__ __forceinline__ void store(bf16* p) const
    {
        JEMPP_CHECK_ALIGNED(p, 8);
        *(uint2*)p = raw;
    }
    __device__ __forceinline__ float get(int i) const { return half_of(i < 2 ? raw.x : raw.y, i & 1); }
    __device__ __forceinline__ void set(int i, float v)
    {
        unsigned& word = i < 2 ? raw.x : raw.y;
        word = with_half(word, i & 1, v);
    }
    template <typename F> __device__ __forceinline__ void make(F f)
    {
        raw.x = bf16_pair(f(0), f(1));
        raw.y = bf16_pair(f(2), f(3));
    }
};

// Elements of a 16-byte pack.
template <typename T> struct Wide;
template <> struct Wide<float> {
    enum { V = 4 };
};
template <> struct Wide<bf16> {
    enum { V = 8 };
};

// a·b + c, rounded twice for float32, as on a CPU without fused multiply-adds; rounded once for what is stored in bf16,
// which keeps far fewer digits than either.
template <typename T> __device__ __forceinline__ float multiply_add(float a, float b, float c);
template <> __device__ __forceinline__ float multiply_add<float>(float a, float b, float c) { return a * b + c; }
template <> __device__ __forceinline__ float multiply_add<bf16>(float a, float b, float c)
{
    return __fmaf_rn(a, b, c);
}

// ---- Loops over all elements -------------------------------------------------------------------------------------

// Calls body(first, count) for every run of at most V neighbours of n elements, distributed over the whole grid; each
// run begins at a multiple of V. What an element becomes does not depend on the grid.
template <int V, typename F> __device__ __forceinline__ void each_run(long long n, F body)
{
    const long long runs = (n + V - 1) / V;
    const long long threads = (long long)gridDim.x * blockDim.x;
    for (long long run = (long long)blockIdx.x * blockDim.x + threadIdx.x; run < runs; run += threads) {
        const long long first = run * V;
        body(first, n - first < V ? (int)(n - first) : V);
    }
}

// Like the loop above, in packs: whole(first) for every run of V, and single(i) for each element of a short last run.
template <int V, typename F, typename G> __device__ __forceinline__ void each_pack(long long n, F whole, G single)
{
    each_run<V>(n, [&](long long first, int count) {
        if (count == V) {
            whole(first);
        } else {
            for (int i = 0; i < count; i++) {
                single(first + i);
            }
        }
    });
}

// The same over the elements of many tensors: tensor t of `count` has sizes[t] elements and takes the tiles first[t] to
// first[t + 1] − 1 of JEMPP_TILE elements each. quad(t, i) is called for elements i to i + 3 of tensor t, single(t, i)
// for each element of a short last run.
#define JEMPP_TILE 4096
template <typename F, typename G>
__device__ __forceinline__ void each_quad_of_tensors(const int* first, const long long* sizes, int count, F quad,
                                                     G single)
{
    const int tiles = first[count];
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        int t = 0;
        for (int above = count; above - t > 1;) {
            const int middle = (t + above) / 2;
            (first[middle] <= tile ? t : above) = middle;
        }
        const long long n = sizes[t], begin = (long long)(tile - first[t]) * JEMPP_TILE;
#pragma unroll 2
        for (int k = 4 * (int)threadIdx.x; k < JEMPP_TILE; k += 4 * JEMPP_BLOCK) {
            const long long i = begin + k;
            if (i + 4 <= n) {
                quad(t, i);
            } else {
                for (long long j = i; j < n; j++) {
                    single(t, j);
                }
            }
        }
    }
}

// ---- Reductions --------------------------------------------------------------------------------------------------

__device__ __forceinline__ float warp_max(float v)
{
    for (int lane = JEMPP_WARP / 2; lane > 0; lane /= 2) {
        v = fmaxf(v, __shfl_xor_sync(JEMPP_ALL_LANES, v, lane));
    }
    return v;
}

template <typename T> __device__ __forceinline__ T warp_sum(T v)
{
    for (int lane = JEMPP_WARP / 2; lane > 0; lane /= 2) {
        v += __shfl_xor_sync(JEMPP_ALL_LANES, v, lane);
    }
    return v;
}

// For a block of 32 × 32 threads: the sum of v over the 32 warps, lane by lane; every thread gets its lane's.
__device__ __forceinline__ double across_warps(double v)
{
    JEMPP_SHARED(double, sums, [JEMPP_WARP][JEMPP_WARP + 1]);
    const int lane = threadIdx.x % JEMPP_WARP, warp = threadIdx.x / JEMPP_WARP;
    sums[warp][lane] = v;
    __syncthreads();
    for (int half = JEMPP_WARP / 2; half > 0; half /= 2) {
        if (warp < half) {
            sums[warp][lane] += sums[warp + half][lane];
        }
        __syncthreads();
    }
    v = sums[0][lane];
    __syncthreads();
    return v;
}

// x clipped to [lo, hi]; NaN stays NaN.
__device__ __forceinline__ float clip(float x, float lo, float hi)
{
    const float y = x < lo ? lo : x;
    return y > hi ? hi : y;
}
