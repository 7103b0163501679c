/* Concurrent calls on one model give the same bits as one thread; on one trainer they return JEMPP_ERR_BUSY or succeed.
 *
 *   threads MODEL THREADS CALLS POOL     (CALLS per thread; POOL threads of the context; a model of the digits) */
#include <jempp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIXELS = 64, CLASSES = 10, KINDS = 5, SIZES = 3, LARGEST = 9 };
static const size_t SIZE[SIZES] = {1, 3, LARGEST};

#define MUST(call)                                                                     \
    do {                                                                               \
        if ((call) != JEMPP_OK) {                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, jempp_last_error());    \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

static jempp_model *model;
static float images[LARGEST * PIXELS];
static const int32_t labels[LARGEST] = {3, 1, 4, 1, 5, 9, 2, 6, 5};
static float want[KINDS][SIZES][LARGEST * PIXELS];
static int calls;

/* Makes call number k, which writes to `out`; returns the number of values. */
static size_t ask(int kind, int size, float *out)
{
    size_t n = SIZE[size];
    jempp_sample_options options;
    switch (kind) {
    case 0:
        MUST(jempp_logits(model, images, n, out, n * CLASSES));
        return n * CLASSES;
    case 1:
        MUST(jempp_log_density(model, images, n, out, n));
        return n;
    case 2:
        MUST(jempp_input_grad(model, images, n, NULL, out, n * PIXELS));
        return n * PIXELS;
    case 3:
        MUST(jempp_input_grad(model, images, n, labels, out, n * PIXELS));
        return n * PIXELS;
    default:
        jempp_sample_options_init(&options, sizeof options);
        options.steps = 1;
        options.seed = 7;
        MUST(jempp_sample(model, &options, 1, out, PIXELS));
        return PIXELS;
    }
}

static void *work(void *thread)
{
    float out[LARGEST * PIXELS];
    size_t t = *(size_t *)thread;
    for (int i = 0; i < calls; i++) {
        /* Sampling takes longest; one call in fifty samples. */
        int kind = i % 50 == 49 ? 4 : (int)((i + t) % 4), size = (int)((i / 4 + t) % SIZES);
        size_t len = ask(kind, size, out);
        if (memcmp(out, want[kind][size], len * sizeof *out)) {
            fprintf(stderr, "thread %u, call %d: other bits\n", (unsigned)t, i);
            exit(1);
        }
        /* The error message of a call is visible only on the thread that made it. */
        if (i % 16 == 0 && (jempp_logits(model, images, 1, out, 3) != JEMPP_ERR_INVALID_ARGUMENT
                            || !strstr(jempp_last_error(), "room for 3")))
            exit(1);
    }
    return NULL;
}

static jempp_trainer *trainer;
static size_t done[2], refused[2];

static void *step(void *thread)
{
    static float x[4 * PIXELS];
    static const int32_t y[4] = {0, 1, 2, 3};
    size_t t = *(size_t *)thread;
    for (int i = 0; i < (calls < 200 ? calls : 200); i++) {
        jempp_status s = jempp_trainer_step(trainer, x, 4, x, y, 4, NULL, NULL, 0, NULL);
        if (s == JEMPP_ERR_BUSY)
            refused[t]++;
        else {
            MUST(s);
            done[t]++;
        }
    }
    return NULL;
}

/* Steps on two threads: each succeeds or returns BUSY. */
static int busy(jempp_context *context)
{
    pthread_t thread[2];
    static size_t number[2] = {0, 1};
    jempp_step_metrics m = {0};
    m.struct_size = sizeof m;
    MUST(jempp_trainer_create(context,
                              "preset = \"digits\"\n[train]\nbatch_size = 4\n[sampler]\nouter_steps = 1\nbuffer_size = 50\n",
                              &trainer));
    for (int t = 0; t < 2; t++)
        pthread_create(&thread[t], NULL, step, &number[t]);
    for (int t = 0; t < 2; t++)
        pthread_join(thread[t], NULL);
    float x[4 * PIXELS] = {0};
    int32_t y[4] = {0};
    MUST(jempp_trainer_step(trainer, x, 4, x, y, 4, NULL, NULL, 0, &m));
    printf("%u steps, %u refused as busy\n", (unsigned)(done[0] + done[1]), (unsigned)(refused[0] + refused[1]));
    jempp_trainer_free(trainer);
    return m.step == done[0] + done[1] + 1 && refused[0] + refused[1] > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    int threads = argc > 2 ? atoi(argv[2]) : 8;
    pthread_t thread[64];
    size_t number[64];
    jempp_context *context = NULL;
    jempp_context_options options;
    calls = argc > 3 ? atoi(argv[3]) : 100;
    if (argc < 2 || threads < 1 || threads > 64)
        return 2;
    jempp_context_options_init(&options, sizeof options);
    options.threads = argc > 4 ? atoi(argv[4]) : 2;
    MUST(jempp_context_create(&options, &context));
    MUST(jempp_model_load(context, argv[1], &model));
    for (int i = 0; i < LARGEST * PIXELS; i++)
        images[i] = (float)(i * 31 % 255) / 127.5f - 1.0f;
    for (int kind = 0; kind < KINDS; kind++)
        for (int size = 0; size < SIZES; size++)
            ask(kind, size, want[kind][size]);
    for (int t = 0; t < threads; t++) {
        number[t] = (size_t)t;
        pthread_create(&thread[t], NULL, work, &number[t]);
    }
    for (int t = 0; t < threads; t++)
        pthread_join(thread[t], NULL);
    printf("%d threads, %d calls each: the same bits\n", threads, calls);
    jempp_model_free(model);
    threads = busy(context);
    jempp_context_free(context);
    return threads;
}
