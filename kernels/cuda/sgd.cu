// SGD with momentum and weight decay, d = g + λ·w; v ← μ·v + d; w ← w − lr·v, of many tensors at once: the CUDA
// counterpart of sgd.rs, with the same bits.
//
// What must hold: all is float32; no fused multiply-add; results do not depend on the grid. The learning rate is in device
// memory. Of each tensor there are seven addresses: w, v, g and what is added to it (null stands for zeros), the new w, which
// may be w, the new v, which may be v, and the new w in bf16, if not null.
//
// Launch: any grid, block 256, no shared memory; one block for each tile is best (see each_quad_of_tensors).
#include "common.cuh"

template <int V>
__device__ __forceinline__ void sgd_pack(const unsigned long long* at, long long i, float momentum, float decay, float lr)
{
    Pack<float, V> weight, velocity, grad, more;
    weight.load((const float*)at[0] + i);
    velocity.load((const float*)at[1] + i);
    if (at[2]) {
        grad.load((const float*)at[2] + i);
    }
    if (at[3]) {
        more.load((const float*)at[3] + i);
    }
    const bool given = at[2] != 0, added = at[3] != 0;
    velocity.make([&](int k) {
        const float g = given ? grad.get(k) : 0.0f;
        const float d = (added ? g + more.get(k) : g) + decay * weight.get(k);
        return momentum * velocity.get(k) + d;
    });
    weight.make([&](int k) { return weight.get(k) - lr * velocity.get(k); });
    weight.store((float*)at[4] + i);
    velocity.store((float*)at[5] + i);
    if (at[6]) {
        Pack<bf16, V> low;
        low.make([&](int k) { return weight.get(k); });
        low.store((bf16*)at[6] + i);
    }
}

extern "C" __global__ void sgd(const __grid_constant__ Pointers p, const int* first, const long long* sizes, int count,
                               const float* lr, float momentum, float decay)
{
    const float rate = *lr;
    each_quad_of_tensors(
        first, sizes, count, [&](int t, long long i) { sgd_pack<4>(p.at + 7 * t, i, momentum, decay, rate); },
        [&](int t, long long i) { sgd_pack<1>(p.at + 7 * t, i, momentum, decay, rate); });
}
