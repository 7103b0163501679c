// From bytes on the device to the network's input, with crops, mirroring and noise: the CUDA counterpart of augment.rs,
// with the same bits.
//
// What must hold: position i of a batch owns the words from 4·i·q of the sequence on, q = 1 + ⌈pixels/4⌉ groups of four
// where there is noise and q = 1 if there is none. The first four words are the crop's row and column, the
// mirroring, and one that is not used; then come the noise's words, as many as values. An index out of range gives NaN.
//
// Launch: grid (any, n), block 256, no shared memory; enough blocks in x for pixels/4 is best.
#include "philox.cuh"

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

template <typename T>
__device__ void augment_body(const unsigned char* __restrict__ images, int count, const int* __restrict__ index, int n,
                             int h, int w, int c, int pad, int flip, float sigma, const int* seed, const int* step,
                             unsigned step_offset, unsigned stream, T* __restrict__ out)
{
    const int pixels = h * w * c;
    const RandomSequence sequence = sequence_at(seed, step, stream, step_offset);
    const unsigned long long groups = sigma > 0.0f ? 1 + (pixels + 3) / 4 : 1;
    for (int i = blockIdx.y; i < n; i += gridDim.y) {
        T* to = out + (long long)i * pixels;
        const int from = index[i];
        if (from < 0 || from >= count) {
            each_run<1>(pixels, [&](long long j, int) { to[j] = from_float<T>(JEMPP_NAN); });
            continue;
        }
        const unsigned long long group = (unsigned long long)i * groups;
        const Words crop = philox(sequence, group);
        const Image m = {images + (long long)from * pixels, h, w, c, (int)below(crop.w[0], 2 * pad + 1) - pad,
                         (int)below(crop.w[1], 2 * pad + 1) - pad, flip && below(crop.w[2], 2) == 1};
        if (!(sigma > 0.0f)) {
            each_run<1>(pixels, [&](long long j, int) { to[j] = from_float<T>(cropped(m, (int)j)); });
            continue;
        }
        each_run<4>(pixels, [&](long long j, int left) {
            float z[4];
            normal_quad(sequence, group + 1 + j / 4, z);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                if (e < left) {
                    to[j + e] = from_float<T>(cropped(m, (int)j + e) + sigma * z[e]);
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
