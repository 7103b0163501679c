// Advancing counters: the CUDA counterpart of counter.rs.
//
// What must hold: additions wrap; `out` may be `x`.
//
// Launch: any grid and block.
#include "common.cuh"

extern "C" __global__ void counter_advance(const int* x, int by, long long n, int* out)
{
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += gridDim.x * (long long)blockDim.x) {
        out[i] = (int)((unsigned)x[i] + (unsigned)by);
    }
}
