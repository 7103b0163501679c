/* Classifies an image with a trained model: label, probability, log density.
 *
 *   classify MODEL IMAGE
 *
 * MODEL is a run folder, a checkpoint folder or a .safetensors file; IMAGE is a binary PGM (grey) or PPM (colour) file
 * of the model's image size. Compile with: cc -std=c99 classify.c $(pkg-config --cflags --libs jempp) -lm -o classify */
#include <jempp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, jempp_last_error());
    return 1;
}

/* Reads a P5 or P6 file of the model's size as values in [-1, 1]; NULL if it is something else. */
static float *read_image(const char *path, const jempp_model_info *info)
{
    size_t count = (size_t)info->height * info->width * info->channels;
    FILE *file = fopen(path, "rb");
    unsigned width = 0, height = 0, most = 0, channels = 0;
    float *image = NULL;
    int kind = 0;
    if (file && fscanf(file, "P%d %u %u %u", &kind, &width, &height, &most) == 4 && fgetc(file) != EOF) {
        channels = kind == 6 ? 3 : 1;
        if ((kind == 5 || kind == 6) && most == 255 && width == info->width && height == info->height
            && channels == info->channels)
            image = malloc(count * sizeof *image);
        for (size_t i = 0; image && i < count; i++) {
            int u = fgetc(file);
            if (u == EOF) {
                free(image);
                image = NULL;
            } else {
                image[i] = ((float)u / 255.0f - 0.5f) / 0.5f;
            }
        }
    }
    if (file)
        fclose(file);
    return image;
}

static int classify(const jempp_model *model, const char *path)
{
    jempp_model_info info = {0};
    float density, most, sum = 0.0f, *image, *logits;
    uint32_t label = 0;
    int status = 0;
    info.struct_size = sizeof info;
    if (jempp_model_get_info(model, &info))
        return failed("info");
    image = read_image(path, &info);
    if (!image) {
        fprintf(stderr, "%s: needs a P5 or P6 image of %ux%u in %u channels, 255 levels\n", path, (unsigned)info.width,
                (unsigned)info.height, (unsigned)info.channels);
        return 1;
    }
    logits = malloc(info.classes * sizeof *logits);
    if (!logits || jempp_logits(model, image, 1, logits, info.classes)
        || jempp_log_density(model, image, 1, &density, 1)) {
        status = failed("classify");
    } else {
        for (uint32_t y = 1; y < info.classes; y++)
            label = logits[y] > logits[label] ? y : label;
        most = logits[label];
        for (uint32_t y = 0; y < info.classes; y++)
            sum += expf(logits[y] - most);
        printf("label %u  probability %.4f  log density %.4f\n", (unsigned)label, 1.0 / sum, density);
    }
    free(logits);
    free(image);
    return status;
}

int main(int argc, char **argv)
{
    jempp_context *context = NULL;
    jempp_model *model = NULL;
    int status;
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL IMAGE\n", argv[0]);
        return 2;
    }
    if (jempp_context_create(NULL, &context))
        status = failed("context");
    else if (jempp_model_load(context, argv[1], &model))
        status = failed(argv[1]);
    else
        status = classify(model, argv[2]);
    jempp_model_free(model); /* every _free accepts NULL */
    jempp_context_free(context);
    return status;
}
