// Convolutions and their gradients in float32, NHWC with KRSC filters, as loops that vectorise: the inner one runs over
// channels that lie side by side. Each value is one chain of sums in a fixed order.

#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

struct Sizes {
    int n, h, w, c, k, r, s, stride, pad, oh, ow;

    size_t x(int i, int y, int at) const { return (((size_t)i * h + y) * w + at) * c; }
    size_t y(int i, int row, int at) const { return (((size_t)i * oh + row) * ow + at) * k; }
    // The columns of the output whose tap s lies inside the image.
    void columns(int tap, int* from, int* to) const
    {
        *from = 0;
        while (*from < ow && *from * stride + tap - pad < 0) {
            ++*from;
        }
        *to = ow;
        while (*to > *from && (*to - 1) * stride + tap - pad >= w) {
            --*to;
        }
    }
};

// out[j] += Σ_i v[i]·m[i·n + j], in the order of i.
CLONES static void add_rows(float* __restrict out, const float* v, const float* __restrict m, int rows, int n)
{
    int i = 0;
    for (; i + 4 <= rows; i += 4, m += 4 * (size_t)n) {
        const float a = v[i], b = v[i + 1], c = v[i + 2], d = v[i + 3];
        for (int j = 0; j < n; j++) {
            out[j] = out[j] + a * m[j] + b * m[n + j] + c * m[2 * (size_t)n + j] + d * m[3 * (size_t)n + j];
        }
    }
    for (; i < rows; i++, m += n) {
        for (int j = 0; j < n; j++) {
            out[j] += v[i] * m[j];
        }
    }
}

// The filters as [r][s][c][k], or as [r][s][k][c].
static std::vector<float> by_tap(const Sizes& z, const float* w, bool k_last)
{
    std::vector<float> out((size_t)z.k * z.r * z.s * z.c);
    const size_t taps = (size_t)z.r * z.s;
    for (size_t k = 0; k < (size_t)z.k; k++)
        for (size_t t = 0; t < taps; t++)
            for (size_t c = 0; c < (size_t)z.c; c++) {
                out[k_last ? (t * z.c + c) * z.k + k : (t * z.k + k) * z.c + c] = w[(k * taps + t) * z.c + c];
            }
    return out;
}

// Calls f(image, input row, output row, r, s, first column, end of columns) for all taps inside the image.
template <typename F> static void each_tap(const Sizes& z, F f)
{
    for (int n = 0; n < z.n; n++)
        for (int oy = 0; oy < z.oh; oy++)
            for (int r = 0; r < z.r; r++) {
                const int iy = oy * z.stride + r - z.pad;
                for (int s = 0; s < z.s && iy >= 0 && iy < z.h; s++) {
                    int from, to;
                    z.columns(s, &from, &to);
                    f(n, iy, oy, r, s, from, to);
                }
            }
}

// y += x ∗ w
static void forward(const Sizes& z, const float* x, const float* w, float* y)
{
    const std::vector<float> taps = by_tap(z, w, true);
    each_tap(z, [&](int n, int iy, int oy, int r, int s, int from, int to) {
        const float* m = &taps[((size_t)r * z.s + s) * z.c * z.k];
        for (int ox = from; ox < to; ox++) {
            add_rows(y + z.y(n, oy, ox), x + z.x(n, iy, ox * z.stride + s - z.pad), m, z.c, z.k);
        }
    });
}

// dx += the gradient of x
static void input_grad(const Sizes& z, const float* dy, const float* w, float* dx)
{
    const std::vector<float> taps = by_tap(z, w, false);
    each_tap(z, [&](int n, int iy, int oy, int r, int s, int from, int to) {
        const float* m = &taps[((size_t)r * z.s + s) * z.k * z.c];
        for (int ox = from; ox < to; ox++) {
            add_rows(dx + z.x(n, iy, ox * z.stride + s - z.pad), dy + z.y(n, oy, ox), m, z.k, z.c);
        }
    });
}

// dw += the gradient of w
static void weight_grad(const Sizes& z, const float* x, const float* dy, float* dw)
{
    std::vector<float> rows((size_t)z.ow * z.c), column(z.ow);
    each_tap(z, [&](int n, int iy, int oy, int r, int s, int from, int to) {
        for (int ox = from; ox < to; ox++) {
            memcpy(&rows[(size_t)(ox - from) * z.c], x + z.x(n, iy, ox * z.stride + s - z.pad), z.c * sizeof(float));
        }
        for (int k = 0; k < z.k; k++) {
            for (int ox = from; ox < to; ox++) {
                column[ox - from] = dy[z.y(n, oy, ox) + k];
            }
            add_rows(dw + (((size_t)k * z.r + r) * z.s + s) * z.c, column.data(), rows.data(), to - from, z.c);
        }
    });
}
