// Counter-based randomness: Philox4x32-10 and the maps from its words to uniforms and normals.
//
// What must hold: the same bits as kernels/src/philox.rs. Every operation is written as one IEEE operation, so
// that no compiler may fuse or reorder it.
//
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once
#include "common.cuh"

// A random sequence: the words of the seed, the stream (the use of randomness) and the step (the repetition).
struct RandomSequence {
    unsigned key0, key1, stream, step;
};

struct Words {
    unsigned w[4];
};

// The sequence whose seed and step are in device memory; `offset` is added to the step.
__device__ __forceinline__ RandomSequence sequence_at(const int* seed, const int* step, unsigned stream,
                                                      unsigned offset)
{
    RandomSequence p;
    p.key0 = (unsigned)seed[0];
    p.key1 = (unsigned)seed[1];
    p.stream = stream;
    p.step = (unsigned)step[0] + offset;
    return p;
}

// Words 4·group … 4·group + 3 of a sequence.
__device__ __forceinline__ Words philox(const RandomSequence& p, unsigned long long group)
{
    unsigned c0 = (unsigned)group, c1 = (unsigned)(group >> 32), c2 = p.step, c3 = p.stream;
    unsigned k0 = p.key0, k1 = p.key1;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned long long p0 = (unsigned long long)0xD2511F53u * c0;
        const unsigned long long p1 = (unsigned long long)0xCD9E8D57u * c2;
        c0 = (unsigned)(p1 >> 32) ^ c1 ^ k0;
        c2 = (unsigned)(p0 >> 32) ^ c3 ^ k1;
        c1 = (unsigned)p1;
        c3 = (unsigned)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Words words = {{c0, c1, c2, c3}};
    return words;
}

// A uniform in (0, 1): the midpoint of one of 2²³ equal cells.
__device__ __forceinline__ float uniform_of(unsigned word)
{
    return __fmul_rn(__fadd_rn((float)(word >> 9), 0.5f), 1.0f / 8388608.0f);
}

// Natural logarithm of a normal positive number (the polynomial of Cephes' logf).
__device__ __forceinline__ float philox_ln(float x)
{
    const unsigned bits = (unsigned)__float_as_int(x);
    const int exponent = (int)(bits - 0x3F3504F3u) >> 23;
    const float m = __fadd_rn(__int_as_float((int)(bits - ((unsigned)exponent << 23))), -1.0f);
    const float e = (float)exponent;
    float p = 7.0376836e-2f;
    p = __fmaf_rn(p, m, -1.151461e-1f);
    p = __fmaf_rn(p, m, 1.1676999e-1f);
    p = __fmaf_rn(p, m, -1.2420141e-1f);
    p = __fmaf_rn(p, m, 1.4249323e-1f);
    p = __fmaf_rn(p, m, -1.6668058e-1f);
    p = __fmaf_rn(p, m, 2.0000714e-1f);
    p = __fmaf_rn(p, m, -2.4999994e-1f);
    p = __fmaf_rn(p, m, 3.333333e-1f);
    const float z = __fmul_rn(m, m);
    float y = __fmul_rn(__fmul_rn(p, m), z);
    y = __fmaf_rn(e, -2.1219444e-4f, y);
    y = __fmaf_rn(z, -0.5f, y);
    return __fmaf_rn(e, 0.6933594f, __fadd_rn(m, y));
}

// s = sin 2πt, c = cos 2πt for t in [0, 1).
__device__ __forceinline__ void philox_sin_cos(float t, float& sine, float& cosine)
{
    // Nearest quarter turn; the remainder is within ±1/8 of a turn.
    const float q = floorf(__fadd_rn(__fmul_rn(t, 4.0f), 0.5f));
    const float a = __fmul_rn(__fadd_rn(t, -__fmul_rn(q, 0.25f)), 6.2831855f);
    const float z = __fmul_rn(a, a);
    float s = __fmaf_rn(__fmaf_rn(-1.9515296e-4f, z, 8.332161e-3f), z, -1.6666655e-1f);
    s = __fmaf_rn(__fmul_rn(s, z), a, a);
    float c = __fmaf_rn(__fmaf_rn(2.4433157e-5f, z, -1.3887316e-3f), z, 4.1666646e-2f);
    c = __fmaf_rn(__fmul_rn(c, z), z, __fmaf_rn(-0.5f, z, 1.0f));
    const int quarter = (int)q & 3;
    sine = quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c;
    cosine = quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s;
}

// Two words to two independent standard normals (Box & Muller, 1958).
__device__ __forceinline__ void normal_pair(unsigned a, unsigned b, float& x, float& y)
{
    const float r = __fsqrt_rn(__fmul_rn(-2.0f, philox_ln(uniform_of(a))));
    float s, c;
    philox_sin_cos(uniform_of(b), s, c);
    x = __fmul_rn(r, c);
    y = __fmul_rn(r, s);
}

// Normals 4·group … 4·group + 3 of a sequence.
__device__ __forceinline__ void normal_quad(const RandomSequence& p, unsigned long long group, float* out)
{
    const Words w = philox(p, group);
    normal_pair(w.w[0], w.w[1], out[0], out[1]);
    normal_pair(w.w[2], w.w[3], out[2], out[3]);
}

// Uniforms 4·group … 4·group + 3 of a sequence.
__device__ __forceinline__ void uniform_quad(const RandomSequence& p, unsigned long long group, float* out)
{
    const Words w = philox(p, group);
    for (int i = 0; i < 4; i++) {
        out[i] = uniform_of(w.w[i]);
    }
}
