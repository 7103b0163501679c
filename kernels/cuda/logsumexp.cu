// The logsumexp of the rows of a row-major rows × cols matrix, and softmax, its gradient; one warp per row, any number
// of columns. The CUDA counterpart of logsumexp.rs.
//
// What must hold: a row with a NaN gives NaN; else a row with a +inf gives +inf; a row of -inf only, or with no
// columns, gives -inf. The softmax of such rows is NaN.
//
// Launch: any grid, block whole warps; rows/4 blocks of 128 threads is best. No shared memory.
#include "softmax.cuh"

template <typename T>
__device__ void forward_body(const T* __restrict__ x, float* __restrict__ out, long long rows, long long cols)
{
    each_warp_row(rows, [&](long long r) {
        const RowMax m = row_max(x + r * cols, cols);
        const float rest = row_rest(x + r * cols, cols, m);
        if (threadIdx.x % JEMPP_WARP == 0) {
            out[r] = m.greatest + rest;
        }
    });
}

// p = softmax(x)·u[row]: the gradient of the logsumexp; a null `u` stands for ones. p may alias x.
template <typename T>
__device__ void softmax_body(const T* x, const float* __restrict__ u, T* p, long long rows, long long cols)
{
    each_warp_row(rows, [&](long long r) {
        const T* row = x + r * cols;
        const RowMax m = row_max(row, cols);
        // If the maximum is infinite, inf − inf makes the row NaN, as it should; a NaN does so by itself.
        const float sum = row_exp_sum(row, cols, m.greatest);
        const float scale = u ? u[r] : 1.0f;
        for (long long c = threadIdx.x % JEMPP_WARP; c < cols; c += JEMPP_WARP) {
            p[r * cols + c] = from_float<T>(expf(to_float(row[c]) - m.greatest) / sum * scale);
        }
    });
}

// dx = p·(u − Σ u·p): the gradient of the softmax p from u = dp. dx may alias u.
template <typename T>
__device__ void softmax_grad_body(const T* p, const T* u, T* dx, long long rows, long long cols)
{
    each_warp_row(rows, [&](long long r) {
        float dot = 0.0f;
        for (long long c = threadIdx.x % JEMPP_WARP; c < cols; c += JEMPP_WARP) {
            dot += to_float(p[r * cols + c]) * to_float(u[r * cols + c]);
        }
        dot = warp_sum(dot);
        for (long long c = threadIdx.x % JEMPP_WARP; c < cols; c += JEMPP_WARP) {
            const long long i = r * cols + c;
            dx[i] = from_float<T>(to_float(p[i]) * (to_float(u[i]) - dot));
        }
    });
}

#define KERNELS(T, S)                                                                                                  \
    extern "C" __global__ void logsumexp_rows_##S(const T* __restrict__ x, float* __restrict__ out, long long rows,    \
                                                  long long cols)                                                      \
    {                                                                                                                  \
        forward_body(x, out, rows, cols);                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void softmax_rows_##S(const T* x, const float* u, T* p, long long rows, long long cols)      \
    {                                                                                                                  \
        softmax_body(x, u, p, rows, cols);                                                                             \
    }                                                                                                                  \
    extern "C" __global__ void softmax_grad_##S(const T* p, const T* u, T* dx, long long rows, long long cols)         \
    {                                                                                                                  \
        softmax_grad_body(p, u, dx, rows, cols);                                                                       \
    }
KERNELS(float, f32)
KERNELS(bf16, bf16)
#undef KERNELS
