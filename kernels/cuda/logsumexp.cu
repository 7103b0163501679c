// out[r] = log sum_c exp(x[r, c]) of a row-major rows x cols matrix, one warp a row, any number of columns.
//
// The greatest element is taken out first, so nothing overflows. A row with a NaN gives NaN; else a row with a +inf
// gives +inf; a row of -inf only, or with no columns, gives -inf.
#include "common.cuh"

extern "C" __global__ void logsumexp_rows_f32(const float* __restrict__ x, float* __restrict__ out, long long rows,
                                              long long cols)
{
    const int lane = threadIdx.x % JEMPP_WARP;
    const long long warps_a_block = blockDim.x / JEMPP_WARP;
    const long long warps = gridDim.x * warps_a_block;
    for (long long r = blockIdx.x * warps_a_block + threadIdx.x / JEMPP_WARP; r < rows; r += warps) {
        const float* row = x + r * cols;

        float greatest = -JEMPP_INF;
        int nan = 0;
        for (long long c = lane; c < cols; c += JEMPP_WARP) {
            const float v = row[c];
            greatest = fmaxf(greatest, v); // passes over NaN
            nan |= v != v;
        }
        greatest = warp_max(greatest);
        nan = __any_sync(JEMPP_ALL_LANES, nan);

        float result = greatest;
        if (nan) {
            result = JEMPP_NAN;
        } else if (greatest > -JEMPP_INF && greatest < JEMPP_INF) {
            float sum = 0.0f;
            for (long long c = lane; c < cols; c += JEMPP_WARP) {
                sum += expf(row[c] - greatest);
            }
            result = greatest + logf(warp_sum(sum));
        }
        if (lane == 0) {
            out[r] = result;
        }
    }
}
