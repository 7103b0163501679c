// Max pooling over windows of pixels, and its gradient: the CUDA counterpart of max_pool2d.rs.
//
// What must hold: a NaN is larger than any number, and of equal values the first counts, row by row; a gradient is one
// thread's sum over the windows that cover the pixel, row by row; results do not depend on the grid.
//
// Launch: any grid, block 256, no shared memory. One thread for each value written is best.
#include "windows.cuh"

// The pixel whose value window (r, o) takes, in the channel that `image` points to.
__device__ __forceinline__ int largest(const Windows& v, const float* image, int r, int o)
{
    const Side rows = seen(v, r, v.h), columns = seen(v, o, v.w);
    int from = rows.start * v.w + columns.start;
    float best = image[(long long)from * v.c];
    for (int a = rows.start; a < rows.end; a++) {
        for (int b = columns.start; b < columns.end; b++) {
            const float value = image[((long long)a * v.w + b) * v.c];
            if (value > best || value != value) {
                best = value;
                from = a * v.w + b;
            }
        }
    }
    return from;
}

extern "C" __global__ void max_pool2d(const float* x, WINDOWS_SHAPE, float* y)
{
    const Windows v = WINDOWS_GIVEN;
    each_run<1>(n * oh * ow * c, [&](long long i, int) {
        const int channel = (int)(i % c), o = (int)(i / c % ow), r = (int)(i / c / ow % oh);
        const float* image = x + i / c / ow / oh * h * w * c + channel;
        y[i] = image[(long long)largest(v, image, r, o) * c];
    });
}

extern "C" __global__ void max_pool2d_grad(const float* x, const float* dy, WINDOWS_SHAPE, float* dx)
{
    const Windows v = WINDOWS_GIVEN;
    each_run<1>(n * h * w * c, [&](long long i, int) {
        const int channel = (int)(i % c), column = (int)(i / c % w), row = (int)(i / c / w % h);
        const long long number = i / c / w / h;
        const float* image = x + number * h * w * c + channel;
        const float* windows = dy + number * oh * ow * c + channel;
        const Side rows = seers(v, row, oh), columns = seers(v, column, ow);
        float sum = 0.0f;
        for (int r = rows.start; r < rows.end; r++) {
            for (int o = columns.start; o < columns.end; o++) {
                if (largest(v, image, r, o) == row * w + column) {
                    sum += windows[((long long)r * ow + o) * c];
                }
            }
        }
        dx[i] = sum;
    });
}
