/* Trains on the 8x8 digits within this program for a few steps, saves, resumes, and classifies with the trained model.
 *
 *   train DIGITS.csv FOLDER [STEPS]
 *
 * DIGITS.csv has one line per image: 64 grey values from 0 to 16, then the label; it comes from
 *   gunzip -c jempp/data/digits.csv.gz > digits.csv
 * Compile with: cc -std=c99 train.c $(pkg-config --cflags --libs jempp) -o train */
#include <jempp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIXELS = 64, BATCH = 16, MOST = 4000 };

static const char *CONFIG = "preset = \"digits\"\n"
                            "[train]\nbatch_size = 16\nlr = 0.05\nwarmup_iters = 0\nschedule = \"constant\"\n"
                            "[sampler]\nouter_steps = 2\nbuffer_size = 200\n"
                            "[eval]\nrecalibration_batches = 4\n";

static float images[MOST][PIXELS];
static int32_t labels[MOST];

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, jempp_last_error());
    return 1;
}

/* Returns the number of images read. */
static size_t read_digits(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t n = 0;
    if (!file)
        return 0;
    for (; n < MOST; n++) {
        int value = 0, read = 0;
        for (int i = 0; i < PIXELS && (read = fscanf(file, "%d,", &value)) == 1; i++)
            images[n][i] = (float)value / 8.0f - 1.0f;
        if (read != 1 || fscanf(file, "%d", &labels[n]) != 1)
            break;
    }
    fclose(file);
    return n;
}

/* The k-th batch: cycles through the images. */
static void fill(size_t n, size_t k, float (*x)[PIXELS], int32_t *y)
{
    for (size_t i = 0; i < BATCH; i++) {
        size_t row = (k * BATCH + i) * 7 % n;
        memcpy(x[i], images[row], sizeof x[i]);
        y[i] = labels[row];
    }
}

static int train(jempp_trainer *trainer, size_t n, size_t first, size_t steps)
{
    float data[BATCH][PIXELS], labelled[BATCH][PIXELS], chains[BATCH][PIXELS];
    int32_t unused[BATCH], y[BATCH];
    jempp_step_metrics m = {0};
    m.struct_size = sizeof m;
    for (size_t k = first; k < first + steps; k++) {
        fill(n, 2 * k, data, unused);
        fill(n, 2 * k + 1, labelled, y);
        if (jempp_trainer_step(trainer, data[0], BATCH, labelled[0], y, BATCH, NULL, chains[0], BATCH, &m))
            return failed("step");
        printf("step %3u  loss %8.4f  accuracy %.3f  log density of data %7.3f, of chains %7.3f\n", (unsigned)m.step, m.loss,
               m.accuracy, m.log_density_data, m.log_density_chain);
    }
    return 0;
}

static int judge(jempp_trainer *trainer, size_t n)
{
    float x[BATCH][PIXELS], logits[BATCH][10];
    int32_t y[BATCH];
    jempp_model *model = NULL; /* a snapshot, usable while training goes on */
    int right = 0;
    if (jempp_trainer_model(trainer, &model))
        return failed("snapshot");
    fill(n, 0, x, y);
    if (jempp_logits(model, x[0], BATCH, logits[0], BATCH * 10)) {
        jempp_model_free(model);
        return failed("logits");
    }
    for (int i = 0; i < BATCH; i++) {
        int best = 0;
        for (int c = 1; c < 10; c++)
            best = logits[i][c] > logits[i][best] ? c : best;
        right += best == y[i];
    }
    printf("%d of %d right\n", right, BATCH);
    jempp_model_free(model);
    return 0;
}

int main(int argc, char **argv)
{
    size_t steps = argc > 3 ? strtoul(argv[3], NULL, 10) : 10, n;
    jempp_context *context = NULL;
    jempp_trainer *trainer = NULL;
    int status = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: %s DIGITS.csv FOLDER [STEPS]\n", argv[0]);
        return 2;
    }
    n = read_digits(argv[1]);
    if (n < 4 * BATCH) {
        fprintf(stderr, "%s: needs lines of 64 values and a label\n", argv[1]);
        return 1;
    }
    if (jempp_context_create(NULL, &context) || jempp_trainer_create(context, CONFIG, &trainer))
        status = failed("trainer");
    status = status || train(trainer, n, 0, steps);
    if (!status && jempp_trainer_save(trainer, argv[2]))
        status = failed("save");
    jempp_trainer_free(trainer);
    trainer = NULL;
    /* As another process could do later. */
    if (!status && jempp_trainer_resume(context, argv[2], &trainer))
        status = failed("resume");
    status = status || train(trainer, n, steps, 1) || judge(trainer, n);
    jempp_trainer_free(trainer);
    jempp_context_free(context);
    return status;
}
