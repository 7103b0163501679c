// Softplus, y = ln(1 + eˣ), and its gradient dx = dy·σ(x): the CUDA counterpart of softplus.rs.
//
// What must hold: float32; the exponential of y cannot overflow; results do not depend on the grid. y may be x, and dx
// either input.
//
// Launch: any grid, block 256, no shared memory.
#include "common.cuh"

extern "C" __global__ void softplus(const float* x, long long n, float* y)
{
    each_run<1>(n, [&](long long i, int) {
        const float v = x[i];
        y[i] = (v < 0.0f ? 0.0f : v) + log1pf(expf(v < 0.0f ? v : -v));
    });
}

extern "C" __global__ void softplus_grad(const float* x, const float* dy, long long n, float* dx)
{
    each_run<1>(n, [&](long long i, int) { dx[i] = dy[i] / (1.0f + expf(-x[i])); });
}
