// Running statistics folded from one pass after another, r ← (1 − μ)·r + μ·s, of many tensors at once: the CUDA
// counterpart of bn_running_update.rs, in float32.
//
// What must hold: the folds are done in the order given. Fold i is the group order[i] with the tensor's correction
// factor[i] (n/(n−1) for variances), or, where order[i] is negative, the accumulator with factor[i] = (1 − μ)^steps,
// raised in float64 by the host. Of each tensor there are six addresses: r; the statistics s; the accumulator, null if
// the order has none; what s and the accumulator lack (null stands for zeros); the new r, which may be r; and where the
// accumulator is set to zero, which may be where it was, or null.
//
// Launch: grid (⌈largest c/256⌉, tensors), block 256, no shared memory. channels[t] is c of tensor t, factors has `folds`
// values for each tensor.
#include "common.cuh"

extern "C" __global__ void bn_running_update(const __grid_constant__ Pointers p, const int* __restrict__ channels,
                                             const int* __restrict__ order, const float* __restrict__ factors,
                                             int folds, float keep, float take)
{
    const int t = blockIdx.y, c = channels[t];
    const unsigned long long* at = p.at + 6 * t;
    const float *r = (const float*)at[0], *s = (const float*)at[1], *acc = (const float*)at[2];
    const float* offset = (const float*)at[3];
    float *out = (float*)at[4], *cleared = (float*)at[5];
    each_run<1>(c, [&](long long channel, int) {
        const float lacking = offset ? offset[channel] : 0.0f;
        float v = offset ? r[channel] - lacking : r[channel];
        for (int i = 0; i < folds; i++) {
            const int g = order[i];
            const float factor = factors[t * folds + i];
            if (g >= 0) {
                v = keep * v + take * (s[(long long)g * c + channel] * factor);
            } else {
                v = factor * v + acc[channel];
            }
        }
        out[channel] = offset ? v + lacking : v;
        if (cleared) {
            cleared[channel] = 0.0f;
        }
    });
}
