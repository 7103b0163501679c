// scale = gamma / √(var + eps) for each group and channel, and its gradient: the CUDA counterpart of bn_coeffs.rs, in
// float32.
//
// What must hold: dgamma adds the groups in order.
//
// Launch: bn_coeffs grid ⌈groups·c/256⌉, bn_coeffs_grad grid ⌈c/256⌉, block 256, no shared memory.
#include "common.cuh"

extern "C" __global__ void bn_coeffs(const float* __restrict__ var, const float* __restrict__ gamma, int groups, int c,
                                     float eps, float* __restrict__ scale)
{
    each_run<1>((long long)groups * c, [&](long long i, int) { scale[i] = gamma[i % c] / sqrtf(var[i] + eps); });
}

extern "C" __global__ void bn_coeffs_grad(const float* __restrict__ var, const float* __restrict__ gamma,
                                          const float* __restrict__ dscale, int groups, int c, float eps,
                                          float* __restrict__ dvar, float* __restrict__ dgamma)
{
    each_run<1>(c, [&](long long channel, int) {
        float sum = 0.0f;
        for (int g = 0; g < groups; g++) {
            const long long i = (long long)g * c + channel;
            const float v = var[i] + eps;
            const float inv = 1.0f / sqrtf(v);
            sum += dscale[i] * inv;
            dvar[i] = -0.5f * dscale[i] * gamma[channel] * inv / v;
        }
        dgamma[channel] = sum;
    });
}
