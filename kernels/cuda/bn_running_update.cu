// Running statistics folded from one pass after another, r ← (1 − μ)·r + μ·s: the CUDA counterpart of
// bn_running_update.rs, in float32.
//
// What must hold: the folds are done in the order given. Fold i is the group order[i] with its correction factor[i]
// (n/(n−1) for variances), or, where order[i] is negative, the accumulator with factor[i] = (1 − μ)^steps, raised in
// float64 by the host. `out` may be r.
//
// Launch: grid ⌈c/256⌉, block 256, no shared memory.
#include "common.cuh"

extern "C" __global__ void bn_running_update(const float* r, const float* __restrict__ s, const float* __restrict__ acc,
                                             const int* __restrict__ order, const float* __restrict__ factor,
                                             int folds, int c, float keep, float take, float* out)
{
    each_run<1>(c, [&](long long channel, int) {
        float v = r[channel];
        for (int i = 0; i < folds; i++) {
            const int g = order[i];
            if (g >= 0) {
                v = keep * v + take * (s[(long long)g * c + channel] * factor[i]);
            } else {
                v = factor[i] * v + acc[channel];
            }
        }
        out[channel] = v;
    });
}
