// Average pooling over windows of pixels, and its gradient: the CUDA counterpart of avg_pool2d.rs.
//
// What must hold: each value is one thread's sum in the order of the loops below; results do not depend on the grid. A
// window's sum is divided by size² if `pads`, else by the pixels of the image that it covers.
//
// Launch: any grid, block 256, no shared memory. One thread for each value written is best.
#include "windows.cuh"

__device__ __forceinline__ float divisor(const Windows& v, int pads, int row, int column)
{
    const Side rows = seen(v, row, v.h), columns = seen(v, column, v.w);
    return (float)(pads ? v.size * v.size : (rows.end - rows.start) * (columns.end - columns.start));
}

extern "C" __global__ void avg_pool2d(const float* x, WINDOWS_SHAPE, int pads, float* y)
{
    const Windows v = WINDOWS_GIVEN;
    each_run<1>(n * oh * ow * c, [&](long long i, int) {
        const int channel = (int)(i % c), o = (int)(i / c % ow), r = (int)(i / c / ow % oh);
        const float* image = x + i / c / ow / oh * h * w * c + channel;
        const Side rows = seen(v, r, h), columns = seen(v, o, w);
        float sum = 0.0f;
        for (int a = rows.start; a < rows.end; a++) {
            for (int b = columns.start; b < columns.end; b++) {
                sum += image[((long long)a * w + b) * c];
            }
        }
        y[i] = sum / divisor(v, pads, r, o);
    });
}

extern "C" __global__ void avg_pool2d_grad(const float* dy, WINDOWS_SHAPE, int pads, float* dx)
{
    const Windows v = WINDOWS_GIVEN;
    each_run<1>(n * h * w * c, [&](long long i, int) {
        const int channel = (int)(i % c), column = (int)(i / c % w), row = (int)(i / c / w % h);
        const float* windows = dy + i / c / w / h * oh * ow * c + channel;
        const Side rows = seers(v, row, oh), columns = seers(v, column, ow);
        float sum = 0.0f;
        for (int r = rows.start; r < rows.end; r++) {
            for (int o = columns.start; o < columns.end; o++) {
                sum += windows[((long long)r * ow + o) * c] / divisor(v, pads, r, o);
            }
        }
        dx[i] = sum;
    });
}
