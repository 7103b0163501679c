// cuDNN's batch norm in plain loops, in float32 with sums in float64.

struct Norm {
    Tensor x;
    double eps;
    const float *xs, *gamma, *beta, *dy;
    float *y, *mean, *inverse, *dx, *dgamma, *dbeta;
};

static void norm_forward(const void* given)
{
    Norm v;
    memcpy(&v, given, sizeof v);
    const size_t rows = (size_t)v.x.n * v.x.h * v.x.w, c = v.x.c;
    for (size_t k = 0; k < c; k++) {
        double mean = 0.0, var = 0.0;
        for (size_t r = 0; r < rows; r++) {
            mean += v.xs[r * c + k] / (double)rows;
        }
        for (size_t r = 0; r < rows; r++) {
            const double d = v.xs[r * c + k] - mean;
            var += d * d / rows;
        }
        const double inverse = 1.0 / __builtin_sqrt(var + v.eps);
        v.mean[k] = (float)mean;
        v.inverse[k] = (float)inverse;
        for (size_t r = 0; r < rows; r++) {
            v.y[r * c + k] = (float)((v.xs[r * c + k] - mean) * inverse * v.gamma[k] + v.beta[k]);
        }
    }
}

static void norm_backward(const void* given)
{
    Norm v;
    memcpy(&v, given, sizeof v);
    const size_t rows = (size_t)v.x.n * v.x.h * v.x.w, c = v.x.c;
    for (size_t k = 0; k < c; k++) {
        double sum = 0.0, dot = 0.0;
        for (size_t r = 0; r < rows; r++) {
            sum += v.dy[r * c + k];
            dot += v.dy[r * c + k] * (double)(v.xs[r * c + k] - v.mean[k]) * v.inverse[k];
        }
        v.dbeta[k] = (float)sum;
        v.dgamma[k] = (float)dot;
        for (size_t r = 0; r < rows; r++) {
            const double hat = (v.xs[r * c + k] - v.mean[k]) * v.inverse[k];
            v.dx[r * c + k] = (float)(v.gamma[k] * v.inverse[k] * (v.dy[r * c + k] - sum / rows - hat * dot / rows));
        }
    }
}

enum { NORM_SPACE = 32, NORM_KEPT = 16 };

API int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void*, int, int, Tensor*, Tensor*, Tensor*, Tensor*,
                                                                 void*, size_t* bytes)
{
    *bytes = NORM_SPACE;
    return OK;
}
API int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void*, int, int, Tensor*, Tensor*, Tensor*, Tensor*, Tensor*,
                                                          Tensor*, void*, size_t* bytes)
{
    *bytes = NORM_SPACE / 2;
    return OK;
}
API int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void*, int, int, void*, Tensor*, size_t* bytes)
{
    *bytes = NORM_KEPT;
    return OK;
}
API int cudnnBatchNormalizationForwardTrainingEx(void* handle, int mode, int ops, const float* alpha, const float* beta,
                                                 Tensor* x, const void* xs, Tensor*, const void*, Tensor*, void* y,
                                                 Tensor* p, const void* gamma, const void* shift, double factor,
                                                 void* running, void*, double eps, void* mean, void* inverse, void*,
                                                 void* space, size_t bytes, void* kept, size_t kept_bytes)
{
    if (mode < 1 || ops != 0 || *alpha != 1.0f || *beta != 0.0f || p->c != x->c || running || factor <= 0.0 || !space ||
        bytes < NORM_SPACE || !kept || kept_bytes < NORM_KEPT) {
        return BAD;
    }
    Norm v = {*x, eps, (const float*)xs, (const float*)gamma, (const float*)shift, nullptr, (float*)y, (float*)mean,
              (float*)inverse, nullptr, nullptr, nullptr};
    return fake_ask(((Handle*)handle)->stream, norm_forward, &v, sizeof v) == 0 ? OK : BAD;
}
API int cudnnBatchNormalizationBackwardEx(void* handle, int mode, int ops, const float* alpha, const float* beta,
                                          const float* alpha_p, const float* beta_p, Tensor* x, const void* xs,
                                          Tensor*, const void*, Tensor*, const void* dy, Tensor*, void*, Tensor*,
                                          void* dx, Tensor* p, const void* gamma, const void*, void* dgamma,
                                          void* dbeta, double, const void* mean, const void* inverse, void*,
                                          void* space, size_t, void* kept, size_t kept_bytes)
{
    if (mode < 1 || ops != 0 || *alpha != 1.0f || *beta != 0.0f || *alpha_p != 1.0f || *beta_p != 0.0f ||
        p->c != x->c || !space || !kept || kept_bytes < NORM_KEPT) {
        return BAD;
    }
    Norm v = {*x, 0.0, (const float*)xs, (const float*)gamma, nullptr, (const float*)dy, nullptr, (float*)mean,
              (float*)inverse, (float*)dx, (float*)dgamma, (float*)dbeta};
    return fake_ask(((Handle*)handle)->stream, norm_backward, &v, sizeof v) == 0 ? OK : BAD;
}
