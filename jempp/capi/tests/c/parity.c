/* Runs one training step on inputs from a file and writes the results to another.
 *
 *   parity CONFIG.toml MODEL INPUT OUTPUT SAVED
 *
 * INPUT: int32 n, pixels; then n images for log p(x), n labelled images, n chain starts (float32), n labels (int32).
 * OUTPUT: the n final images of chains, then loss, f(data), f(chains), cross-entropy, learning rate (float32). The model
 * after the step is saved to the file SAVED. */
#include <jempp.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(call)                                                                     \
    do {                                                                               \
        if ((call) != JEMPP_OK) {                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, jempp_last_error());    \
            return 1;                                                                  \
        }                                                                              \
    } while (0)

int main(int argc, char **argv)
{
    static char config[4096];
    int32_t size[2] = {0, 0};
    float *x, out[5];
    int32_t *labels;
    size_t n, image;
    jempp_context *context = NULL;
    jempp_model *model = NULL, *after = NULL;
    jempp_trainer *trainer = NULL;
    jempp_step_metrics m = {0};
    FILE *file;
    if (argc != 6 || !(file = fopen(argv[1], "r")))
        return 2;
    config[fread(config, 1, sizeof config - 1, file)] = 0;
    fclose(file);
    if (!(file = fopen(argv[3], "rb")) || fread(size, sizeof *size, 2, file) != 2)
        return 2;
    n = (size_t)size[0];
    image = n * (size_t)size[1];
    x = malloc(4 * image * sizeof *x);
    labels = malloc(n * sizeof *labels);
    if (!x || !labels || fread(x, sizeof *x, 3 * image, file) != 3 * image || fread(labels, sizeof *labels, n, file) != n)
        return 2;
    fclose(file);
    MUST(jempp_context_create(NULL, &context));
    MUST(jempp_model_load(context, argv[2], &model));
    MUST(jempp_trainer_create(context, config, &trainer));
    MUST(jempp_trainer_load_model(trainer, model));
    m.struct_size = sizeof m;
    MUST(jempp_trainer_step(trainer, x, n, x + image, labels, n, x + 2 * image, x + 3 * image, n, &m));
    MUST(jempp_trainer_model(trainer, &after));
    MUST(jempp_model_save(after, argv[5]));
    out[0] = m.loss, out[1] = m.log_density_data, out[2] = m.log_density_chain, out[3] = m.ce, out[4] = m.lr;
    if (!(file = fopen(argv[4], "wb")) || fwrite(x + 3 * image, sizeof *x, image, file) != image
        || fwrite(out, sizeof *out, 5, file) != 5 || fclose(file))
        return 2;
    free(x);
    free(labels);
    jempp_model_free(model);
    jempp_model_free(after);
    jempp_trainer_free(trainer);
    jempp_context_free(context);
    return 0;
}
