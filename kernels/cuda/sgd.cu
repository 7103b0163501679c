// SGD with momentum and weight decay, d = g + λ·w; v ← μ·v + d; w ← w − lr·v: the CUDA counterpart of sgd.rs, with the
// same bits.
//
// What must hold: weights and velocity are float32, the gradient is of type S; no fused multiply-add; results do not
// depend on the grid. The learning rate is in device memory. `w_out` may be w and `v_out` v. `low`, if not null,
// gets the new weights in bf16.
//
// Launch: any grid, block 256, no shared memory; enough threads for n/4 quads is best.
#include "common.cuh"

template <typename T, int V>
__device__ __forceinline__ void sgd_pack(const float* w, const float* v, const T* g, float momentum, float decay,
                                         float lr, float* w_out, float* v_out, bf16* low)
{
    Pack<float, V> weight, velocity;
    Pack<T, V> grad;
    Pack<bf16, V> l;
    weight.load(w);
    velocity.load(v);
    grad.load(g);
#pragma unroll
    for (int i = 0; i < V; i++) {
        const float d = grad.get(i) + decay * weight.get(i);
        const float u = momentum * velocity.get(i) + d;
        const float next = weight.get(i) - lr * u;
        velocity.set(i, u);
        weight.set(i, next);
        l.set(i, next);
    }
    weight.store(w_out);
    velocity.store(v_out);
    if (low) {
        l.store(low);
    }
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void sgd_##S(const float* w, const float* v, const T* g, const float* lr, long long n,       \
                                       float momentum, float decay, float* w_out, float* v_out, bf16* low)             \
    {                                                                                                                  \
        const float rate = *lr;                                                                                        \
        const auto l = [&](long long i) { return low ? low + i : low; };                                               \
        each_pack<4>(                                                                                                  \
            n,                                                                                                         \
            [&](long long i) {                                                                                         \
                sgd_pack<T, 4>(w + i, v + i, g + i, momentum, decay, rate, w_out + i, v_out + i, l(i));                \
            },                                                                                                         \
            [&](long long i) {                                                                                         \
                sgd_pack<T, 1>(w + i, v + i, g + i, momentum, decay, rate, w_out + i, v_out + i, l(i));                \
            });                                                                                                        \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
