// A libcudnn.so.9 of plain loops, for the tests of the wrappers over it: float32, or bf16 added up in float32 and
// rounded once, all three tensors alike as the library of old asks for; NHWC with KRSC filters. It takes the algorithms
// that add in a fixed order and no others, needs workspace for some, and works through the fake driver, so that it can
// be captured. Forward algorithm 0 takes three times as long as 1.
//
// With FAKE_CUDNN_FLAKY set 1 is the slower one, and forward algorithm 6 is taken too: the fastest, with other values
// each time.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

extern "C" int fake_ask(void (*work)(const void*), const void* given, size_t bytes);

struct Tensor {
    int n, c, h, w, type;
};
struct Filter {
    int k, c, r, s, type;
};
struct Convolution {
    int pad, stride, math;
};
enum { OK = 0, BAD = 2000, UNSUPPORTED = 3000 };

API size_t cudnnGetVersion() { return 91000; }
API void cudnnGetLastErrorString(char* text, size_t size) { strncpy(text, "said by the tests", size); }
API int cudnnCreate(void** handle)
{
    *handle = new int;
    return OK;
}
API int cudnnDestroy(void* handle)
{
    delete (int*)handle;
    return OK;
}
API int cudnnSetStream(void*, void*) { return OK; }

#define DESCRIPTOR(NAME, TYPE)                                                                                         \
    API int cudnnCreate##NAME##Descriptor(TYPE** d)                                                                    \
    {                                                                                                                  \
        *d = new TYPE();                                                                                               \
        return OK;                                                                                                     \
    }                                                                                                                  \
    API int cudnnDestroy##NAME##Descriptor(TYPE* d)                                                                    \
    {                                                                                                                  \
        delete d;                                                                                                      \
        return OK;                                                                                                     \
    }
DESCRIPTOR(Tensor, Tensor)
DESCRIPTOR(Filter, Filter)
DESCRIPTOR(Convolution, Convolution)

// NHWC is format 1, float32 type 0, bf16 type 9.
enum { FLOAT = 0, BF16 = 9 };
static bool known(int type) { return type == FLOAT || type == BF16; }
API int cudnnSetTensor4dDescriptor(Tensor* d, int format, int type, int n, int c, int h, int w)
{
    *d = {n, c, h, w, type};
    return format == 1 && known(type) && n > 0 && c > 0 && h > 0 && w > 0 ? OK : BAD;
}
API int cudnnSetFilter4dDescriptor(Filter* d, int type, int format, int k, int c, int r, int s)
{
    *d = {k, c, r, s, type};
    return format == 1 && known(type) && k > 0 && c > 0 && r > 0 && s > 0 ? OK : BAD;
}
// Cross-correlation is mode 1.
API int cudnnSetConvolution2dDescriptor(Convolution* d, int pad, int pad_w, int stride, int stride_w, int dilation,
                                        int dilation_w, int mode, int type)
{
    *d = {pad, stride, -1};
    const bool good = pad == pad_w && stride == stride_w && dilation == 1 && dilation_w == 1 && mode == 1 && type == 0;
    return good ? OK : BAD;
}
API int cudnnSetConvolutionMathType(Convolution* d, int math)
{
    d->math = math;
    return OK;
}

struct Call {
    int gives, algorithm;
    Tensor x, y;
    Filter w;
    Convolution conv;
    float alpha, beta;
    const void *a, *b;
    void* out;
};

static float get(const void* from, size_t i, int type)
{
    if (type == FLOAT) {
        return ((const float*)from)[i];
    }
    const uint32_t bits = (uint32_t)((const uint16_t*)from)[i] << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

// To nearest, ties to even.
static void put(void* to, size_t i, int type, float v)
{
    if (type == FLOAT) {
        ((float*)to)[i] = v;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &v, sizeof v);
    ((uint16_t*)to)[i] = v == v ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : bits >> 16 | 0x40;
}

static bool fits(const Tensor& x, const Filter& w, const Convolution& c, const Tensor& y)
{
    return x.c == w.c && y.c == w.k && x.n == y.n && y.h == (x.h + 2 * c.pad - w.r) / c.stride + 1 &&
           y.w == (x.w + 2 * c.pad - w.s) / c.stride + 1 && c.math >= 0 && x.type == w.type && y.type == w.type &&
           (x.type == FLOAT || c.math != 3); // multiply-adds of float32 alone
}

static bool flaky() { return getenv("FAKE_CUDNN_FLAKY") != nullptr; }

// One bilinear form: each product of an input and a filter value belongs to one output value.
static void once(Call v)
{
    const size_t count = v.gives == 0   ? (size_t)v.y.n * v.y.h * v.y.w * v.y.c
                         : v.gives == 1 ? (size_t)v.x.n * v.x.h * v.x.w * v.x.c
                                        : (size_t)v.w.k * v.w.r * v.w.s * v.w.c;
    const int type = v.x.type;
    std::vector<float> out(count);
    for (size_t i = 0; i < count; i++) {
        out[i] = v.beta == 0.0f ? 0.0f : v.beta * get(v.out, i, type);
    }
    for (int n = 0; n < v.y.n; n++)
        for (int oy = 0; oy < v.y.h; oy++)
            for (int ox = 0; ox < v.y.w; ox++)
                for (int r = 0; r < v.w.r; r++)
                    for (int s = 0; s < v.w.s; s++) {
                        const int iy = oy * v.conv.stride + r - v.conv.pad, ix = ox * v.conv.stride + s - v.conv.pad;
                        if (iy < 0 || iy >= v.x.h || ix < 0 || ix >= v.x.w) {
                            continue;
                        }
                        for (int k = 0; k < v.w.k; k++)
                            for (int c = 0; c < v.w.c; c++) {
                                const size_t x = (((size_t)n * v.x.h + iy) * v.x.w + ix) * v.x.c + c;
                                const size_t y = (((size_t)n * v.y.h + oy) * v.y.w + ox) * v.y.c + k;
                                const size_t w = (((size_t)k * v.w.r + r) * v.w.s + s) * v.w.c + c;
                                if (v.gives == 0) {
                                    out[y] += v.alpha * get(v.a, x, type) * get(v.b, w, type);
                                } else if (v.gives == 1) {
                                    out[x] += v.alpha * get(v.a, y, type) * get(v.b, w, type);
                                } else {
                                    out[w] += v.alpha * get(v.a, x, type) * get(v.b, y, type);
                                }
                            }
                    }
    for (size_t i = 0; i < count; i++) {
        put(v.out, i, type, out[i]);
    }
}

static void work(const void* given)
{
    Call v;
    memcpy(&v, given, sizeof v);
    const int slow = v.gives != 0 || v.algorithm == 6 ? 0 : v.algorithm == 0 ? 2 : flaky() ? 6 : 0;
    for (int i = 0; i < slow && v.beta == 0.0f; i++) {
        once(v);
    }
    once(v);
    static int calls;
    if (v.algorithm == 6) {
        ((float*)v.out)[0] += 1e-3f * ++calls; // of float32 alone
    }
}

static int ask(int gives, int algorithm, const Tensor* x, const Filter* w, const Convolution* c, const Tensor* y, const float* alpha,
               const float* beta, const void* a, const void* b, void* out, const void* space, size_t bytes, size_t need)
{
    if (!fits(*x, *w, *c, *y) || bytes < need || (need > 0 && !space)) {
        return BAD;
    }
    const Call call = {gives, algorithm, *x, *y, *w, *c, *alpha, *beta, a, b, out};
    return fake_ask(work, &call, sizeof call) == 0 ? OK : BAD;
}

// Forward: 0 and 1 (the second with workspace), and 6 where flaky; by input: 1; by filters: 1.
static size_t forward_space(int algorithm) { return algorithm == 1 ? 4096 : 0; }

API int cudnnGetConvolutionForwardWorkspaceSize(void*, Tensor* x, Filter* w, Convolution* c, Tensor* y, int algorithm,
                                                size_t* bytes)
{
    *bytes = forward_space(algorithm);
    return algorithm > 1 && !(flaky() && algorithm == 6) ? UNSUPPORTED : fits(*x, *w, *c, *y) ? OK : BAD;
}
API int cudnnGetConvolutionBackwardDataWorkspaceSize(void*, Filter* w, Tensor* y, Convolution* c, Tensor* x,
                                                     int algorithm, size_t* bytes)
{
    *bytes = 100;
    return algorithm != 1 ? UNSUPPORTED : fits(*x, *w, *c, *y) ? OK : BAD;
}
API int cudnnGetConvolutionBackwardFilterWorkspaceSize(void*, Tensor* x, Tensor* y, Convolution* c, Filter* w,
                                                       int algorithm, size_t* bytes)
{
    *bytes = 200;
    return algorithm != 1 ? UNSUPPORTED : fits(*x, *w, *c, *y) ? OK : BAD;
}
API int cudnnConvolutionForward(void*, const float* alpha, Tensor* x, const void* xs, Filter* w, const void* ws,
                                Convolution* c, int algorithm, void* space, size_t bytes, const float* beta, Tensor* y,
                                void* ys)
{
    return ask(0, algorithm, x, w, c, y, alpha, beta, xs, ws, ys, space, bytes, forward_space(algorithm));
}
API int cudnnConvolutionBackwardData(void*, const float* alpha, Filter* w, const void* ws, Tensor* y, const void* ys,
                                     Convolution* c, int, void* space, size_t bytes, const float* beta, Tensor* x,
                                     void* xs)
{
    return ask(1, 1, x, w, c, y, alpha, beta, ys, ws, xs, space, bytes, 100);
}
API int cudnnConvolutionBackwardFilter(void*, const float* alpha, Tensor* x, const void* xs, Tensor* y, const void* ys,
                                       Convolution* c, int, void* space, size_t bytes, const float* beta, Filter* w,
                                       void* ws)
{
    return ask(2, 1, x, w, c, y, alpha, beta, xs, ys, ws, space, bytes, 200);
}

#include "cudnn_graph.h"
