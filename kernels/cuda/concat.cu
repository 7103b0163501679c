// Concatenation along channels with zero padding, and cropping: the CUDA counterpart of concat.rs.
//
// What must hold: copies only; results do not depend on the grid. h, w and c exclude the padding, which has
// `rows` above and below, `columns` left and right, `before` and `after` channels.
//
// Launch: any grid, block 256, no shared memory. One thread for each value written is best.
#include "common.cuh"

// Writes the channels from `zeros` before x's to `more` after them.
extern "C" __global__ void concat_place(const float* x, long long n, int h, int w, int c, int rows, int columns,
                                        int before, int after, int zeros, int more, float* y)
{
    const int written = zeros + c + more, ow = w + 2 * columns, oh = h + 2 * rows;
    each_run<1>(n * oh * ow * written, [&](long long i, int) {
        const int channel = (int)(i % written) - zeros;
        const long long pixel = i / written;
        const int column = (int)(pixel % ow) - columns, row = (int)(pixel / ow % oh) - rows;
        const long long image = pixel / ow / oh;
        const bool inside = channel >= 0 && channel < c && column >= 0 && column < w && row >= 0 && row < h;
        y[pixel * (before + c + after) + before + channel] =
            inside ? x[((image * h + row) * w + column) * c + channel] : 0.0f;
    });
}

extern "C" __global__ void concat_cut(const float* x, long long n, int h, int w, int c, int rows, int columns,
                                      int before, int after, float* y)
{
    const int ow = w + 2 * columns, oh = h + 2 * rows;
    each_run<1>(n * h * w * c, [&](long long i, int) {
        const int channel = (int)(i % c), column = (int)(i / c % w), row = (int)(i / c / w % h);
        const long long pixel = (i / c / w / h * oh + row + rows) * ow + column + columns;
        y[i] = x[pixel * (before + c + after) + before + channel];
    });
}
