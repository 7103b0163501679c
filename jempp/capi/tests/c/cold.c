/* A minimal program that classifies one image, for measuring start-up time. Prints the milliseconds of its parts.
 *
 *   cold MODEL */
#define _POSIX_C_SOURCE 199309L
#include <jempp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    jempp_context *context = NULL;
    jempp_model *model = NULL;
    jempp_model_info info = {0};
    float *x, logits[10];
    double t[5];
    info.struct_size = sizeof info;
    t[0] = now();
    if (argc != 2 || jempp_context_create(NULL, &context))
        return 1;
    t[1] = now();
    if (jempp_model_load(context, argv[1], &model) || jempp_model_get_info(model, &info) || info.classes != 10)
        return 1;
    t[2] = now();
    x = calloc((size_t)info.height * info.width * info.channels, sizeof *x);
    if (!x || jempp_logits(model, x, 1, logits, 10))
        return 1;
    t[3] = now();
    for (int i = 0; i < 20; i++)
        if (jempp_logits(model, x, 1, logits, 10))
            return 1;
    t[4] = now();
    printf("context %.2f  load %.2f  first %.2f  next %.2f\n", t[1] - t[0], t[2] - t[1], t[3] - t[2],
           (t[4] - t[3]) / 20);
    free(x);
    jempp_model_free(model);
    jempp_context_free(context);
    return 0;
}
