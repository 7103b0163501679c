/* Decides about images, and abstains where the model should not be relied on.
 *
 *   decide MODEL IMAGE...
 *
 * MODEL is a run folder, a checkpoint folder or a .safetensors file that has thresholds: `jempp-cli train` fits them at its
 * end if data.valid_size held images back, `jempp-cli eval thresholds` at any time. Each IMAGE is a binary PGM (grey) or
 * PPM (colour) file of the model's image size. Compile with:
 * cc -std=c99 decide.c $(pkg-config --cflags --libs jempp) -o decide */
#include <jempp.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, jempp_last_error());
    return 1;
}

/* Reads a P5 or P6 file of the model's size as values in [-1, 1]; returns 0 if it is one. */
static int read_image(const char *path, const jempp_model_info *info, float *image)
{
    size_t count = (size_t)info->height * info->width * info->channels;
    FILE *file = fopen(path, "rb");
    unsigned width = 0, height = 0, most = 0;
    int kind = 0, bad = 1;
    if (file && fscanf(file, "P%d %u %u %u", &kind, &width, &height, &most) == 4 && fgetc(file) != EOF)
        bad = (kind != 5 && kind != 6) || most != 255 || width != info->width || height != info->height
              || info->channels != (kind == 6 ? 3u : 1u);
    for (size_t i = 0; !bad && i < count; i++) {
        int u = fgetc(file);
        bad = u == EOF;
        image[i] = ((float)u / 255.0f - 0.5f) / 0.5f;
    }
    if (file)
        fclose(file);
    return bad;
}

static int decide(const jempp_model *model, const char *path, const jempp_model_info *info, float *image)
{
    jempp_decision decision = {0};
    char name[256];
    decision.struct_size = sizeof decision;
    if (read_image(path, info, image)) {
        fprintf(stderr, "%s: needs a P5 or P6 image of %ux%u in %u channels, 255 levels\n", path, (unsigned)info->width,
                (unsigned)info->height, (unsigned)info->channels);
        return 1;
    }
    if (jempp_decide(model, image, 1, &decision, 1)
        || jempp_model_class_name(model, decision.label, name, sizeof name))
        return failed(path);
    printf("%s: %s (%d), probability %.4f, p-value of log p(x) %.4f%s\n", path, name[0] ? name : "class",
           (int)decision.label, decision.probability, decision.ood_p_value,
           decision.abstain ? ": abstains, ask a person" : "");
    return 0;
}

static int decide_all(const jempp_model *model, int count, char **paths)
{
    jempp_model_info info = {0};
    jempp_thresholds thresholds = {0};
    float *image;
    int status = 0;
    info.struct_size = sizeof info;
    thresholds.struct_size = sizeof thresholds;
    if (jempp_model_get_info(model, &info))
        return failed("info");
    if (jempp_model_get_thresholds(model, &thresholds))
        return failed("thresholds");
    printf("temperature %.3f (NLL %.4f before, %.4f after), answers %.0f %% of validation images\n",
           thresholds.temperature, thresholds.nll_before, thresholds.nll_after, 100.0 * thresholds.coverage);
    image = malloc((size_t)info.height * info.width * info.channels * sizeof *image);
    if (!image)
        return 1;
    for (int i = 0; i < count && !status; i++)
        status = decide(model, paths[i], &info, image);
    free(image);
    return status;
}

int main(int argc, char **argv)
{
    jempp_context *context = NULL;
    jempp_model *model = NULL;
    int status;
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL IMAGE...\n", argv[0]);
        return 2;
    }
    if (jempp_context_create(NULL, &context))
        status = failed("context");
    else if (jempp_model_load(context, argv[1], &model))
        status = failed(argv[1]);
    else
        status = decide_all(model, argc - 2, argv + 2);
    jempp_model_free(model);
    jempp_context_free(context);
    return status;
}
