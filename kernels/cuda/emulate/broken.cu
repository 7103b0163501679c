// Kernels for the tests of the emulation itself: some with the faults that it must find.
#include "common.cuh"

// out[block] = Σ of the block's 64 values, by a tree in shared memory. `sound`: with the barriers that it needs.
template <bool sound> __device__ void tree_sum(const float* x, float* out)
{
    JEMPP_SHARED(float, sums, [64]);
    sums[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
    __syncthreads();
    for (int half = 32; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) {
            sums[threadIdx.x] += sums[threadIdx.x + half];
        }
        if (sound) {
            __syncthreads();
        }
    }
    if (threadIdx.x == 0) {
        out[blockIdx.x] = sums[0];
    }
}

extern "C" __global__ void sound_sum(const float* x, float* out) { tree_sum<true>(x, out); }

extern "C" __global__ void sum_without_barrier(const float* x, float* out) { tree_sum<false>(x, out); }

// Half of the threads never reach the barrier.
extern "C" __global__ void divergent_barrier(float* out)
{
    if (threadIdx.x < 32) {
        __syncthreads();
    }
    out[threadIdx.x] = 1.0f;
}

// The lanes of a warp wait in different places.
extern "C" __global__ void divergent_shuffle(float* out)
{
    float v = (float)threadIdx.x;
    if (threadIdx.x % 2 == 0) {
        v = __shfl_xor_sync(JEMPP_ALL_LANES, v, 2);
    } else {
        v = (float)__any_sync(JEMPP_ALL_LANES, 1);
    }
    out[threadIdx.x] = v;
}

// A lane leaves before the warp's sum.
extern "C" __global__ void lost_lane(float* out)
{
    if (threadIdx.x == 7) {
        return;
    }
    out[threadIdx.x] = warp_sum((float)threadIdx.x);
}

// A misaligned pack.
extern "C" __global__ void misaligned(const float* x, float* out)
{
    Pack<float, 4> p;
    p.load(x + 1);
    p.store(out);
}

// Every function that a kernel may call: out[0..32] per lane.
extern "C" __global__ void everything(int* out)
{
    JEMPP_DYNAMIC_SHARED(int, shared);
    const int lane = threadIdx.x;
    shared[lane] = lane * lane;
    const int count = __syncthreads_count(lane % 3 == 0);
    int v = shared[31 - lane];
    v += 1000 * __shfl_down_sync(JEMPP_ALL_LANES, lane, 1);
    v += 100000 * __shfl_up_sync(JEMPP_ALL_LANES, lane, 2);
    v += 10000000 * (__shfl_sync(JEMPP_ALL_LANES, lane, 5) == 5);
    __syncwarp();
    v += count + (int)(__ballot_sync(JEMPP_ALL_LANES, lane < 4) & 15u);
    v += __all_sync(JEMPP_ALL_LANES, lane >= 0) + __syncthreads_or(lane == 9) + __syncthreads_and(lane < 31);
    out[lane] = v;
}
