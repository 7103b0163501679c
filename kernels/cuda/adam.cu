// Adam (Kingma & Ba, 2015) with weight decay in the form of PyTorch's `torch.optim.Adam`, step t counted from 1, of many
// tensors at once:
//   d = g + λ·w;  m ← β₁·m + (1 − β₁)·d;  v ← β₂·v + (1 − β₂)·d²
//   w ← w − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
//
// What must hold: all is float32; no fused multiply-add; results do not depend on the grid. Powers of β are formed in
// float64 by repeated squaring. Learning rate and the number of steps done before this one are in device memory. Of each
// tensor there are eight addresses: w, m, v, g (null stands for zeros), the new w, m and v, which may be the old ones, and
// the new w in bf16, if not null.
//
// Launch: any grid, block 256, static shared memory only; one block for each tile is best (see each_quad_of_tensors).
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

template <int V> __device__ __forceinline__ void adam_pack(const Adam& a, const unsigned long long* at, long long i)
{
    Pack<float, V> weight, first, second, grad;
    weight.load((const float*)at[0] + i);
    first.load((const float*)at[1] + i);
    second.load((const float*)at[2] + i);
    const bool given = at[3] != 0;
    if (given) {
        grad.load((const float*)at[3] + i);
    }
    const auto d = [&](int k) { return (given ? grad.get(k) : 0.0f) + a.decay * weight.get(k); };
    first.make([&](int k) { return a.beta1 * first.get(k) + a.one_minus1 * d(k); });
    second.make([&](int k) { return a.beta2 * second.get(k) + a.one_minus2 * (d(k) * d(k)); });
    weight.make([&](int k) {
        return weight.get(k) - a.rate * first.get(k) / (sqrtf(second.get(k)) / a.root + a.eps);
    });
    weight.store((float*)at[4] + i);
    first.store((float*)at[5] + i);
    second.store((float*)at[6] + i);
    if (at[7]) {
        Pack<bf16, V> low;
        low.make([&](int k) { return weight.get(k); });
        low.store((bf16*)at[7] + i);
    }
}

extern "C" __global__ void adam(const __grid_constant__ Pointers p, const int* first, const long long* sizes, int count,
                                const float* lr, const int* step, double beta1, double beta2, float eps, float decay)
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
    each_quad_of_tensors(
        first, sizes, count, [&](int t, long long i) { adam_pack<4>(a, p.at + 8 * t, i); },
        [&](int t, long long i) { adam_pack<1>(a, p.at + 8 * t, i); });
}
