// −log p(label) under the softmax of the logits, and its gradient; one warp per row. The CUDA counterpart of
// softmax_cross_entropy.rs.
//
// What must hold: a label outside 0..cols gives NaN; large logits cancel before small terms are added.
//
// Launch: any grid, block whole warps; rows/4 blocks of 128 threads is best. No shared memory.
#include "softmax.cuh"

template <typename T>
__device__ void loss_body(const T* __restrict__ x, const int* __restrict__ label, float* __restrict__ loss,
                          long long rows, long long cols)
{
    each_warp_row(rows, [&](long long r) {
        const T* row = x + r * cols;
        const RowMax m = row_max(row, cols);
        const float rest = row_rest(row, cols, m);
        if (threadIdx.x % JEMPP_WARP == 0) {
            const int l = label[r];
            const float logit = l >= 0 && l < cols ? to_float(row[l]) : JEMPP_NAN;
            loss[r] = (m.greatest - logit) + rest;
        }
    });
}

// dx = dloss[row]·(softmax(x) − [column = label]). dx may alias x.
template <typename T>
__device__ void grad_body(const T* x, const int* __restrict__ label, const float* __restrict__ dloss, T* dx,
                          long long rows, long long cols)
{
    each_warp_row(rows, [&](long long r) {
        const T* row = x + r * cols;
        const RowMax m = row_max(row, cols);
        const float sum = row_exp_sum(row, cols, m.greatest);
        const int l = label[r];
        const bool known = l >= 0 && l < cols;
        for (long long c = threadIdx.x % JEMPP_WARP; c < cols; c += JEMPP_WARP) {
            float p = expf(to_float(row[c]) - m.greatest) / sum;
            if (c == l) {
                p -= 1.0f;
            }
            dx[r * cols + c] = from_float<T>((known ? p : JEMPP_NAN) * dloss[r]);
        }
    });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void softmax_cross_entropy_##S(const T* x, const int* label, float* loss, long long rows,    \
                                                         long long cols)                                               \
    {                                                                                                                  \
        loss_body(x, label, loss, rows, cols);                                                                         \
    }                                                                                                                  \
    extern "C" __global__ void softmax_cross_entropy_grad_##S(const T* x, const int* label, const float* dloss, T* dx, \
                                                              long long rows, long long cols)                          \
    {                                                                                                                  \
        grad_body(x, label, dloss, dx, rows, cols);                                                                    \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
