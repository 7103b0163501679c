// Adam (Kingma & Ba, 2015) with weight decay in the form of PyTorch's `torch.optim.Adam`, step t counted from 1:
//   d = g + λ·w;  m ← β₁·m + (1 − β₁)·d;  v ← β₂·v + (1 − β₂)·d²
//   w ← w − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
//
// What must hold: weights and moments are float32, the gradient is of type S; no fused multiply-add; results do not
// depend on the grid. Powers of β are formed in float64 by repeated squaring. Learning rate and the number of steps
// done before this one are in device memory. w_out, m_out, v_out may be w, m, v. `low`, if not null, gets the new
// weights in bf16.
//
// Launch: any grid, block 256, static shared memory only; enough threads for n/4 quads is best.
#include "common.cuh"

struct Adam {
    float beta1, beta2, one_minus1, one_minus2, decay, eps;
    float rate; // lr/(1 − β₁ᵗ)
    float root; // √(1 − β₂ᵗ)
};

__device__ __forceinline__ double power(double base, unsigned exponent)
{
    double result = 1.0;
    for (; exponent > 0; exponent /= 2) {
        if (exponent % 2 == 1) {
            result *= base;
        }
        base *= base;
    }
    return result;
}

template <typename T, int V>
__device__ __forceinline__ void adam_pack(const Adam& a, const float* w, const float* m, const float* v, const T* g,
                                          float* w_out, float* m_out, float* v_out, bf16* low)
{
    Pack<float, V> weight, first, second;
    Pack<T, V> grad;
    Pack<bf16, V> l;
    weight.load(w);
    first.load(m);
    second.load(v);
    grad.load(g);
#pragma unroll
    for (int i = 0; i < V; i++) {
        const float d = grad.get(i) + a.decay * weight.get(i);
        const float p = a.beta1 * first.get(i) + a.one_minus1 * d;
        const float q = a.beta2 * second.get(i) + a.one_minus2 * (d * d);
        const float next = weight.get(i) - a.rate * p / (sqrtf(q) / a.root + a.eps);
        first.set(i, p);
        second.set(i, q);
        weight.set(i, next);
        l.set(i, next);
    }
    weight.store(w_out);
    first.store(m_out);
    second.store(v_out);
    if (low) {
        l.store(low);
    }
}

template <typename T>
__device__ void adam_body(const float* w, const float* m, const float* v, const T* g, const float* lr, const int* step,
                          long long n, double beta1, double beta2, float eps, float decay, float* w_out, float* m_out,
                          float* v_out, bf16* low)
{
    JEMPP_SHARED(float, corrected, [2]);
    if (threadIdx.x == 0) {
        const unsigned t = (unsigned)step[0] + 1u;
        corrected[0] = (float)((double)*lr / (1.0 - power(beta1, t)));
        corrected[1] = (float)sqrt(1.0 - power(beta2, t));
    }
    __syncthreads();
    const Adam a = {(float)beta1, (float)beta2, (float)(1.0 - beta1), (float)(1.0 - beta2), decay, eps,
                    corrected[0], corrected[1]};
    const auto l = [&](long long i) { return low ? low + i : low; };
    each_pack<4>(
        n,
        [&](long long i) {
            adam_pack<T, 4>(a, w + i, m + i, v + i, g + i, w_out + i, m_out + i, v_out + i, l(i));
        },
        [&](long long i) {
            adam_pack<T, 1>(a, w + i, m + i, v + i, g + i, w_out + i, m_out + i, v_out + i, l(i));
        });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void adam_##S(const float* w, const float* m, const float* v, const T* g, const float* lr,   \
                                        const int* step, long long n, double beta1, double beta2, float eps,           \
                                        float decay, float* w_out, float* m_out, float* v_out, bf16* low)              \
    {                                                                                                                  \
        adam_body(w, m, v, g, lr, step, n, beta1, beta2, eps, decay, w_out, m_out, v_out, low);                        \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
