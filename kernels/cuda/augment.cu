// From bytes on the device to the network's input, with crops, mirroring and noise: the twin of the CPU's augmentation
// (jempp/src/data/augment.rs and noise.rs), to the bit.
//
// What must hold: position i of a batch owns the words from 4·i·q of the place on, q = 1 + ⌈pixels/4⌉ groups of four
// where there is noise and q = 1 where there is none. The first four words are the crop's row and column, the
// mirroring, and one that is not used; then come the noise's words. Noise is made 256 words (or the rest, rounded up
// to a multiple of four) at a time: with h half as many, words k and h + k give normals k and h + k. So every element
// is addressable. This noise uses no fused multiply-adds, unlike philox.cuh. An index out of range gives NaN.
//
// Launch: grid (any, n), block 256, no shared memory; enough blocks in x for pixels/8 is best.
#include "philox.cuh"

#define NOISE_CHUNK 256

// `pixels` counts values: H·W·C.
struct Image {
    const unsigned char* bytes;
    int h, w, c, dy, dx;
    bool mirror;
};

// (u/255 − ½)/½, rounded after each operation.
__device__ __forceinline__ float value_of(unsigned char u)
{
    return __fmul_rn(__fadd_rn(__fdiv_rn((float)u, 255.0f), -0.5f), 2.0f);
}

// The index in 0..n that i, at most n − 1 outside, is the reflection of.
__device__ __forceinline__ int reflected(int i, int n)
{
    const int from_last = (n - 1) - (i < 0 ? -i : i);
    return (n - 1) - (from_last < 0 ? -from_last : from_last);
}

__device__ __forceinline__ float cropped(const Image& m, int element)
{
    const int channel = element % m.c;
    const int pixel = element / m.c;
    const int y = pixel / m.w;
    int x = pixel % m.w;
    x = m.mirror ? m.w - 1 - x : x;
    return value_of(m.bytes[(reflected(y + m.dy, m.h) * m.w + reflected(x + m.dx, m.w)) * m.c + channel]);
}

__device__ __forceinline__ unsigned below(unsigned word, unsigned n)
{
    return (unsigned)(((unsigned long long)word * n) >> 32);
}

__device__ __forceinline__ float step_of(float p, float m, float c) { return __fadd_rn(__fmul_rn(p, m), c); }

__device__ __forceinline__ float plain_ln(float x)
{
    const int exponent = (int)((unsigned)__float_as_int(x) - 0x3F3504F3u) >> 23;
    const float m = __fadd_rn(__int_as_float(__float_as_int(x) - (int)((unsigned)exponent << 23)), -1.0f);
    const float e = (float)exponent;
    float p = step_of(7.0376836e-2f, m, -1.151461e-1f);
    p = step_of(p, m, 1.1676999e-1f);
    p = step_of(p, m, -1.2420141e-1f);
    p = step_of(p, m, 1.4249323e-1f);
    p = step_of(p, m, -1.6668058e-1f);
    p = step_of(p, m, 2.0000714e-1f);
    p = step_of(p, m, -2.4999994e-1f);
    p = step_of(p, m, 3.333333e-1f);
    const float z = __fmul_rn(m, m);
    const float y = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(p, m), z), -__fmul_rn(2.1219444e-4f, e)),
                              -__fmul_rn(0.5f, z));
    return __fadd_rn(__fadd_rn(m, y), __fmul_rn(0.6933594f, e));
}

__device__ __forceinline__ void plain_normals(unsigned a, unsigned b, float& x, float& y)
{
    const float r = __fsqrt_rn(__fmul_rn(-2.0f, plain_ln(uniform_of(a))));
    const float t = uniform_of(b);
    const int q = (int)__fadd_rn(__fmul_rn(t, 4.0f), 0.5f);
    const float angle = __fmul_rn(__fadd_rn(t, -__fmul_rn((float)q, 0.25f)), 6.2831855f);
    const float z = __fmul_rn(angle, angle);
    float s = step_of(step_of(-1.9515296e-4f, z, 8.332161e-3f), z, -1.6666655e-1f);
    s = __fadd_rn(__fmul_rn(__fmul_rn(s, z), angle), angle);
    float c = step_of(step_of(2.4433157e-5f, z, -1.3887316e-3f), z, 4.1666646e-2f);
    c = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(c, z), z), -__fmul_rn(0.5f, z)), 1.0f);
    const float u = q & 1 ? c : s, v = q & 1 ? s : c;
    x = __fmul_rn(r, (q + 1) & 2 ? -v : v);
    y = __fmul_rn(r, q & 2 ? -u : u);
}

template <typename T>
__device__ void augment_body(const unsigned char* __restrict__ images, int count, const int* __restrict__ index, int n,
                             int h, int w, int c, int pad, int flip, float sigma, const int* seed, const int* step,
                             unsigned step_offset, unsigned stream, T* __restrict__ out)
{
    const int pixels = h * w * c;
    const Place place = place_at(seed, step, stream, step_offset);
    const unsigned long long groups = sigma > 0.0f ? 1 + (pixels + 3) / 4 : 1;
    for (int i = blockIdx.y; i < n; i += gridDim.y) {
        T* to = out + (long long)i * pixels;
        const int from = index[i];
        if (from < 0 || from >= count) {
            each_run<1>(pixels, [&](long long j, int) { to[j] = from_float<T>(JEMPP_NAN); });
            continue;
        }
        const unsigned long long group = (unsigned long long)i * groups;
        const Words crop = philox(place, group);
        const Image m = {images + (long long)from * pixels, h, w, c, (int)below(crop.w[0], 2 * pad + 1) - pad,
                         (int)below(crop.w[1], 2 * pad + 1) - pad, flip && below(crop.w[2], 2) == 1};
        if (!(sigma > 0.0f)) {
            each_run<1>(pixels, [&](long long j, int) { to[j] = from_float<T>(cropped(m, (int)j)); });
            continue;
        }
        // Each run is four first words of pairs; a chunk has NOISE_CHUNK/2 of them, fewer in the last.
        const int chunks = (pixels + NOISE_CHUNK - 1) / NOISE_CHUNK;
        each_run<4>((long long)chunks * (NOISE_CHUNK / 2), [&](long long pair, int) {
            const int chunk = (int)(pair / (NOISE_CHUNK / 2)), k0 = (int)(pair % (NOISE_CHUNK / 2));
            const int start = chunk * NOISE_CHUNK;
            const int left = pixels - start < NOISE_CHUNK ? pixels - start : NOISE_CHUNK;
            const int half = (left + 3) / 4 * 2;
            if (k0 >= half) {
                return;
            }
            const unsigned long long first = group + 1 + start / 4;
            const Words a = philox(place, first + k0 / 4);
            // The second words begin in the middle of a group where half is no multiple of four.
            Words b = philox(place, first + (half + k0) / 4);
            if (half % 4 != 0) {
                const Words next = philox(place, first + (half + k0) / 4 + 1);
                b.w[0] = b.w[2];
                b.w[1] = b.w[3];
                b.w[2] = next.w[0];
                b.w[3] = next.w[1];
            }
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int k = k0 + e;
                float x, y;
                plain_normals(a.w[e], b.w[e], x, y);
                if (k < half && k < left) {
                    to[start + k] = from_float<T>(cropped(m, start + k) + sigma * x);
                }
                if (k < half && half + k < left) {
                    to[start + half + k] = from_float<T>(cropped(m, start + half + k) + sigma * y);
                }
            }
        });
    }
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void augment_##S(const unsigned char* images, int count, const int* index, int n, int h,     \
                                           int w, int c, int pad, int flip, float sigma, const int* seed,              \
                                           const int* step, unsigned step_offset, unsigned stream, T* out)             \
    {                                                                                                                  \
        augment_body(images, count, index, n, h, w, c, pad, flip, sigma, seed, step, step_offset, stream, out);        \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
#undef NOISE_CHUNK
