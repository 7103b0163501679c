/* Goes on training with a model on the 8x8 digits, in a trainer without a data set: the model's weights, and images of the
 * program for the chains to restart from.
 *
 *   warm DIGITS.csv MODEL */
#include <jempp.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIXELS = 64, BATCH = 16, MOST = 400 };

#define MUST(call)                                                                     \
    do {                                                                               \
        if ((call) != JEMPP_OK) {                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, jempp_last_error());    \
            return 1;                                                                  \
        }                                                                              \
    } while (0)

static const char *CONFIG = "preset = \"jempp\"\n"
                            "[model]\ndepth = 10\nwiden_factor = 1\nimage_size = [8, 8, 1]\n"
                            "[train]\nbatch_size = 16\nlr = 0.01\nwarmup_iters = 0\nschedule = \"constant\"\n"
                            "[sampler]\nouter_steps = 2\nbuffer_size = 100\n";

static float images[MOST * PIXELS];
static int32_t labels[MOST];

int main(int argc, char **argv)
{
    jempp_context *context = NULL;
    jempp_model *model = NULL;
    jempp_trainer *trainer = NULL;
    jempp_step_metrics m = {0};
    FILE *file = argc == 3 ? fopen(argv[1], "r") : NULL;
    size_t n = 0;
    if (!file)
        return 2;
    for (; n < MOST; n++) {
        int value = 0, i = 0;
        for (; i < PIXELS && fscanf(file, "%d,", &value) == 1; i++)
            images[n * PIXELS + (size_t)i] = (float)value / 8.0f - 1.0f;
        if (i < PIXELS || fscanf(file, "%d", &labels[n]) != 1)
            break;
    }
    fclose(file);
    m.struct_size = sizeof m;
    MUST(jempp_context_create(NULL, &context));
    MUST(jempp_trainer_create(context, CONFIG, &trainer));
    /* Nothing to start from yet. */
    if (jempp_trainer_step(trainer, images, BATCH, images, labels, BATCH, NULL, NULL, 0, &m) != JEMPP_ERR_INVALID_ARGUMENT)
        return 3;
    MUST(jempp_model_load(context, argv[2], &model));
    MUST(jempp_trainer_load_model(trainer, model));
    jempp_model_free(model);
    if (jempp_trainer_set_init_images(trainer, images, labels, 1) != JEMPP_ERR_INVALID_ARGUMENT)
        return 3;
    MUST(jempp_trainer_set_init_images(trainer, images, labels, n));
    for (size_t k = 0; k < 8; k++) {
        const float *x = images + k * BATCH * PIXELS;
        MUST(jempp_trainer_step(trainer, x, BATCH, x, labels + k * BATCH, BATCH, NULL, NULL, 0, &m));
    }
    printf("step %u gap %.3f\n", (unsigned)m.step, m.log_density_data - m.log_density_chain);
    jempp_trainer_free(trainer);
    jempp_context_free(context);
    return 0;
}
