// A libcublas.so.13 of plain loops, for the tests of the wrappers over it; it works through the fake driver.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

extern "C" int fake_ask(void* stream, void (*work)(const void*), const void* given, size_t bytes);

// Setting the stream takes the workspace away.
struct Handle {
    void* stream;
    bool space;
};

API int cublasCreate_v2(void** handle)
{
    *handle = new Handle{};
    return 0;
}
extern "C" int cuCtxSynchronize();
API int cublasDestroy_v2(void* handle)
{
    cuCtxSynchronize();
    delete (Handle*)handle;
    return 0;
}
API int cublasGetProperty(int kind, int* value)
{
    *value = kind == 0 ? 13 : 0;
    return 0;
}
API int cublasSetStream_v2(void* handle, void* stream)
{
    *(Handle*)handle = {stream, false};
    return 0;
}
API int cublasSetMathMode(void*, int) { return 0; }
API int cublasSetWorkspace_v2(void* handle, void* space, size_t bytes)
{
    ((Handle*)handle)->space = space && bytes;
    return space && bytes ? 0 : 7;
}

struct Call {
    int ta, tb, m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const float *a, *b;
    float* c;
};

// out[i] += Σ_l b[l]·a[l·rows + i], in the order of l.
__attribute__((target_clones("avx512f", "avx2", "default"))) static void
add_columns(float* __restrict out, const float* b, const float* __restrict a, int columns, int rows)
{
    int l = 0;
    for (; l + 4 <= columns; l += 4, a += 4 * (size_t)rows) {
        for (int i = 0; i < rows; i++) {
            out[i] = out[i] + b[l] * a[i] + b[l + 1] * a[rows + i] + b[l + 2] * a[2 * (size_t)rows + i] +
                     b[l + 3] * a[3 * (size_t)rows + i];
        }
    }
    for (; l < columns; l++, a += rows) {
        for (int i = 0; i < rows; i++) {
            out[i] += b[l] * a[i];
        }
    }
}

// By columns, as cuBLAS counts.
static void work(const void* given)
{
    Call v;
    memcpy(&v, given, sizeof v);
    // Copies without transposes.
    std::vector<float> a((size_t)v.m * v.k), b(v.k), out(v.m);
    for (size_t l = 0; l < (size_t)v.k; l++)
        for (size_t i = 0; i < (size_t)v.m; i++) {
            a[l * v.m + i] = v.ta ? v.a[l + i * v.lda] : v.a[i + l * v.lda];
        }
    for (size_t j = 0; j < (size_t)v.n; j++) {
        for (size_t l = 0; l < (size_t)v.k; l++) {
            b[l] = v.tb ? v.b[j + l * v.ldb] : v.b[l + j * v.ldb];
        }
        std::fill(out.begin(), out.end(), 0.0f);
        add_columns(out.data(), b.data(), a.data(), v.k, v.m);
        float* c = v.c + j * v.ldc;
        for (int i = 0; i < v.m; i++) {
            c[i] = v.alpha * out[i] + (v.beta == 0.0f ? 0.0f : v.beta * c[i]);
        }
    }
}

API int cublasSgemm_v2(void* handle, int ta, int tb, int m, int n, int k, const float* alpha, const float* a, int lda,
                       const float* b, int ldb, const float* beta, float* c, int ldc)
{
    if (!((Handle*)handle)->space || m <= 0 || n <= 0 || k <= 0 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) {
        return 7;
    }
    const Call call = {ta, tb, m, n, k, lda, ldb, ldc, *alpha, *beta, a, b, c};
    return fake_ask(((Handle*)handle)->stream, work, &call, sizeof call);
}

// Square products without transposes, as the peak is measured by. bf16 is type 14, float32 0.
struct Square {
    int n, type;
    const void *a, *b;
    void* c;
};

static float value(const void* from, size_t i, int type)
{
    if (type == 0) {
        return ((const float*)from)[i];
    }
    const uint32_t bits = (uint32_t)((const uint16_t*)from)[i] << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void square(const void* given)
{
    Square v;
    memcpy(&v, given, sizeof v);
    for (int j = 0; j < v.n; j++)
        for (int i = 0; i < v.n; i++) {
            float sum = 0.0f;
            for (int l = 0; l < v.n; l++) {
                sum += value(v.a, i + (size_t)l * v.n, v.type) * value(v.b, l + (size_t)j * v.n, v.type);
            }
            if (v.type == 0) {
                ((float*)v.c)[i + (size_t)j * v.n] = sum;
            }
        }
}

API int cublasGemmEx(void* handle, int ta, int tb, int m, int n, int k, const void*, const void* a, int at, int lda,
                     const void* b, int bt, int ldb, const void*, void* c, int ct, int ldc, int, int)
{
    if (ta || tb || m != n || n != k || lda != m || ldb != m || ldc != m || at != bt || bt != ct || (at && at != 14)) {
        return 7;
    }
    const Square call = {n, at, a, b, c};
    return fake_ask(((Handle*)handle)->stream, square, &call, sizeof call);
}
