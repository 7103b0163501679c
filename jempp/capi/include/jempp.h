/*
 * jempp.h - the C interface of jempp: load, classify, sample and train joint energy-based models.
 *
 * Compiles as C99 and as C++11. These rules hold for every function:
 *
 * Images are float32, N x H x W x C, row-major, with values in [-1, 1]. Lengths count elements, never bytes, and must
 * be exact.
 *
 * Threads: functions that take a const handle may be called concurrently on the same handle; functions that take a
 * non-const handle may not, and return JEMPP_ERR_BUSY while another thread uses it. A model is immutable; each call on
 * it borrows a workspace from a bounded pool (the context's number of threads plus one) and waits if all are in use.
 * Results are bit-identical whatever the number of threads and whatever other images are in the batch.
 *
 * Ownership: handles returned through `out` belong to the caller, who frees them with the _free function of their type,
 * which accepts NULL. Handles are looked up, never dereferenced: a handle that was freed, never created or of another
 * type gives JEMPP_ERR_INVALID_ARGUMENT, and freeing it does nothing. Objects may be freed in any order. Memory that is
 * passed in is used only during the call, unless stated otherwise.
 *
 * Errors: every function that can fail returns a jempp_status, and jempp_last_error returns its message. On failure
 * nothing is written to the caller's memory. JEMPP_ERR_INTERNAL is a bug in the library: the handles passed to that
 * call then return nothing else; free them, and please report the message.
 *
 * The library writes nothing to stdout or stderr and installs no signal handlers. Callbacks must return normally:
 * neither C++ exceptions nor longjmp may cross the library.
 */


#ifndef JEMPP_H
#define JEMPP_H

#include <stddef.h>
#include <stdint.h>


/**
 * ABI version of this header. It changes when programs compiled against an older header would break.
 */
#define JEMPP_ABI_VERSION 1

/**
 * Minor version of the ABI of this header: grows with each version that adds functions. A program that uses a function
 * marked "since 1.N" needs a library with jempp_abi_minor() of at least N.
 */
#define JEMPP_ABI_MINOR 1

/**
 * A compute device with its threads. Opaque; see jempp_context_create.
 */
typedef struct jempp_context jempp_context;

/**
 * A trained model. Opaque and immutable; see jempp_model_load.
 */
typedef struct jempp_model jempp_model;

/**
 * A model being trained. Opaque; see jempp_trainer_create.
 */
typedef struct jempp_trainer jempp_trainer;

/**
 * Result of a function: one of the codes below, whose meanings never change.
 */
typedef int32_t jempp_status;

/**
 * Options of a context. Initialise with jempp_context_options_init, then set fields.
 */
typedef struct {
    /**
     * sizeof(jempp_context_options).
     */
    uint32_t struct_size;
    /**
     * "auto" (the CPU), "cpu", or a GPU such as "cuda:0". NULL: "auto".
     */
    const char *device;
    /**
     * Number of CPU threads; 0: one per core. Results do not depend on it.
     */
    int32_t threads;
    /**
     * Seed of trainers whose configuration has none; 0: the configuration's default.
     */
    uint64_t seed;
    /**
     * "f32", "bf16", or on a GPU "tf32". NULL: "f32". On the CPU bf16 rounds the inputs of convolutions and linear layers
     * where that is faster; without AVX512_BF16 it is slower than f32, which the log callback is told.
     */
    const char *precision;
} jempp_context_options;

/**
 * Description of a model.
 */
typedef struct {
    /**
     * sizeof(jempp_model_info), set by the caller.
     */
    uint32_t struct_size;
    /**
     * Height of its images, in pixels.
     */
    uint32_t height;
    /**
     * Width of its images, in pixels.
     */
    uint32_t width;
    /**
     * Channels of its images.
     */
    uint32_t channels;
    /**
     * Number of classes.
     */
    uint32_t classes;
    /**
     * Number of trainable parameters.
     */
    uint64_t parameters;
} jempp_model_info;

/**
 * What a model decides by, and what it does to the validation images that it was fitted on.
 */
typedef struct {
    /**
     * sizeof(jempp_thresholds), set by the caller.
     */
    uint32_t struct_size;
    /**
     * Number of validation images.
     */
    uint32_t images;
    /**
     * What logits are divided by before softmax; 1 where the validation images do not support another value.
     */
    float temperature;
    /**
     * Mean negative log-likelihood of held-out images, in nats, without the temperature. NaN in models of earlier versions.
     */
    float nll_before;
    /**
     * The same with the temperature.
     */
    float nll_after;
    /**
     * Calibrated probability that exactly one class has to reach, or the model abstains.
     */
    float probability;
    /**
     * Allowed rate of labels that do not reach it.
     */
    float alpha;
    /**
     * The model abstains on images whose p-value is below this; the allowed rate of in-distribution images rejected so.
     */
    float ood_alpha;
    /**
     * Fraction of the validation images that the model does not abstain on. NaN in models of earlier versions.
     */
    float coverage;
} jempp_thresholds;

/**
 * A model's decision about an image.
 */
typedef struct {
    /**
     * sizeof(jempp_decision), set by the caller.
     */
    uint32_t struct_size;
    /**
     * The most probable class.
     */
    int32_t label;
    /**
     * Calibrated probability of `label`.
     */
    float probability;
    /**
     * Unnormalised log p(x).
     */
    float log_density;
    /**
     * Conformal p-value of out-of-distribution detection: estimated fraction of in-distribution images whose log p(x)
     * is as low as this.
     */
    float ood_p_value;
    /**
     * 1 if the model abstains, else 0.
     */
    int32_t abstain;
} jempp_decision;

/**
 * Accuracy and calibration of a model on labelled images.
 */
typedef struct {
    /**
     * sizeof(jempp_evaluation), set by the caller.
     */
    uint32_t struct_size;
    /**
     * Fraction classified correctly.
     */
    double accuracy;
    /**
     * Expected calibration error.
     */
    double ece;
    /**
     * Negative log-likelihood: mean -log p(label), in nats.
     */
    double nll;
    /**
     * Brier score, from 0 to 2.
     */
    double brier;
} jempp_evaluation;

/**
 * Options of sampling. Initialise with jempp_sample_options_init, then set fields.
 */
typedef struct {
    /**
     * sizeof(jempp_sample_options).
     */
    uint32_t struct_size;
    /**
     * Initial images of the chains, n x H x W x C; NULL: the start samples stored in the model.
     */
    const float *start;
    /**
     * Elements of `start`: n * H * W * C, or 0.
     */
    size_t start_len;
    /**
     * Class of each chain, n values: sample from p(x|y), with the gradient of log p(x, y); NULL: sample from p(x).
     */
    const int32_t *labels;
    /**
     * Number of outer steps; 0: as in the model's training.
     */
    uint32_t steps;
    /**
     * Step size of the inner steps; negative: as in the model's training.
     */
    float step_size;
    /**
     * Elementwise gradient clipping: bound on each component, 0 for none; negative: as in the model's training.
     */
    float clip;
    /**
     * Standard deviation of the noise added at each step; negative: as in the model's training.
     */
    float noise;
    /**
     * Random seed of initial images and noise: the same seed gives the same images.
     */
    uint64_t seed;
    /**
     * Called on the calling thread after each step, with the number of steps done and the total (both summed over all
     * chunks of chains); returning 0 cancels. NULL: no progress reports. It may call functions on const handles.
     */
    int (*progress)(uint32_t step, uint32_t steps, void *user);
    /**
     * Passed to `progress`.
     */
    void *user;
} jempp_sample_options;

/**
 * Metrics of a training step.
 */
typedef struct {
    /**
     * sizeof(jempp_step_metrics), set by the caller.
     */
    uint32_t struct_size;
    /**
     * Number of steps done, including this one.
     */
    uint64_t step;
    /**
     * Total loss.
     */
    float loss;
    /**
     * Mean cross-entropy of the labelled images, in nats.
     */
    float ce;
    /**
     * Mean unnormalised log p(x) of the data; NaN if log p(x) is not trained.
     */
    float log_density_data;
    /**
     * Mean unnormalised log p(x) of the chains; NaN if log p(x) is not trained.
     */
    float log_density_chain;
    /**
     * Fraction of the labelled images that were classified correctly.
     */
    float accuracy;
    /**
     * Learning rate of the step.
     */
    float lr;
} jempp_step_metrics;

/**
 * Description of a compute device.
 */
typedef struct {
    /**
     * sizeof(jempp_device_info), set by the caller.
     */
    uint32_t struct_size;
    /**
     * N of "cuda:N"; 0 for the CPU.
     */
    uint32_t ordinal;
    /**
     * Name, NUL-terminated, truncated if necessary.
     */
    char name[128];
    /**
     * Total memory in bytes; 0: unknown.
     */
    uint64_t memory_total;
    /**
     * Free memory in bytes; 0: unknown. Always 0 for a GPU, as this call does not open it.
     */
    uint64_t memory_free;
    /**
     * 1 for a GPU, 0 for the CPU.
     */
    int32_t is_cuda;
    /**
     * Compute capability of a GPU, 90 for 9.0; 0 for the CPU.
     */
    int32_t compute_capability;
} jempp_device_info;

/**
 * Success.
 */
#define JEMPP_OK 0

/**
 * Invalid argument: NULL, a wrong length, a value out of range, a handle that was freed or never created.
 */
#define JEMPP_ERR_INVALID_ARGUMENT 1

/**
 * A file operation failed, or there is no such file.
 */
#define JEMPP_ERR_IO 2

/**
 * A file is damaged or in another format, or lacks what was requested.
 */
#define JEMPP_ERR_FORMAT 3

/**
 * A compute device is missing or failed.
 */
#define JEMPP_ERR_DEVICE 4

/**
 * Out of memory.
 */
#define JEMPP_ERR_OUT_OF_MEMORY 5

/**
 * Another thread is using the handle.
 */
#define JEMPP_ERR_BUSY 6

/**
 * Training diverged, or a sampling chain left the finite numbers.
 */
#define JEMPP_ERR_DIVERGED 7

/**
 * Cancelled by a callback.
 */
#define JEMPP_ERR_CANCELLED 8

/**
 * A bug in the library. The handles passed to the call are unusable from now on; free them.
 */
#define JEMPP_ERR_INTERNAL 9

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * ABI version of the library; compare it with JEMPP_ABI_VERSION. Any thread; cannot fail.
 */
uint32_t jempp_abi_version(void);

/**
 * Minor version of the library's ABI; compare it with JEMPP_ABI_MINOR. Any thread; cannot fail. Since 1.1.
 */
uint32_t jempp_abi_minor(void);

/**
 * Version of the library, such as "0.1.0".
 *
 * Returns a static string. Any thread; cannot fail.
 */
const char *jempp_version(void);

/**
 * Error message of this thread's last call that returned a jempp_status: what went wrong and what to do about it, or
 * "" if the call returned JEMPP_OK.
 *
 * Returns UTF-8, never NULL. The string is owned by the library and valid until this thread's next such call. Any
 * thread.
 */
const char *jempp_last_error(void);

/**
 * Name of a status, such as "JEMPP_ERR_BUSY", or "unknown status".
 *
 * Returns a static string. Any thread; cannot fail.
 */
const char *jempp_status_string(jempp_status status);

/**
 * Fills `options` with the defaults: device "auto", one thread per core, no seed, precision "f32".
 *
 * options: receives the defaults; NULL does nothing. struct_size: sizeof(jempp_context_options). Any thread; cannot
 * fail.
 */
void jempp_context_options_init(jempp_context_options *options,
                                uint32_t struct_size);

/**
 * Creates a context: opens the device and starts its threads.
 *
 * options: NULL for the defaults; used during the call only. out: receives the context; free it with
 * jempp_context_free, before or after the models and trainers created in it. Any thread.
 *
 * Errors: INVALID_ARGUMENT for invalid options or a struct_size that is too small; DEVICE if the device is not
 * available, saying what was tried.
 */
jempp_status jempp_context_create(const jempp_context_options *options,
                                  jempp_context **out);

/**
 * Frees a context. Models and trainers created in it stay valid and keep its threads alive.
 *
 * context: NULL or a freed handle does nothing. Any thread; cannot fail.
 */
void jempp_context_free(jempp_context *context);

/**
 * Loads a trained model.
 *
 * context: the model computes on its device. path: a run folder, a checkpoint folder, a safetensors file or a
 * published PyTorch checkpoint; UTF-8, or on Unix any bytes. A safetensors file is memory-mapped and read on demand:
 * it may be replaced or deleted while the model lives, but not written into. out: receives the model; free it with
 * jempp_model_free. BUSY while another thread uses the context.
 *
 * Errors: IO if there is no readable file at the path; FORMAT if it is damaged or not a model.
 */
jempp_status jempp_model_load(jempp_context *context,
                              const char *path,
                              jempp_model **out);

/**
 * Loads a trained model from the bytes of its file.
 *
 * context: the model computes on its device. data: `len` bytes, which are copied. out: receives the model; free it
 * with jempp_model_free. BUSY while another thread uses the context.
 *
 * Errors: FORMAT if the bytes are damaged or not a model.
 */
jempp_status jempp_model_load_memory(jempp_context *context,
                                     const void *data,
                                     size_t len,
                                     jempp_model **out);

/**
 * Saves a model to a safetensors file. The file is replaced atomically.
 *
 * model: the model. path: the file; its folder must exist. May be called concurrently.
 *
 * Errors: IO.
 */
jempp_status jempp_model_save(const jempp_model *model, const char *path);

/**
 * Describes a model.
 *
 * model: the model. info: receives the description; set its struct_size first. May be called concurrently.
 *
 * Errors: INVALID_ARGUMENT if struct_size is too small.
 */
jempp_status jempp_model_get_info(const jempp_model *model, jempp_model_info *info);

/**
 * Logits `f(x)[y]`, whose softmax is p(y|x).
 *
 * model: the model. images: n x H x W x C. out: receives n x classes values; out_len must be n * classes. May be
 * called concurrently.
 *
 * Errors: INVALID_ARGUMENT for a wrong length or an image value that is not finite.
 */
jempp_status jempp_logits(const jempp_model *model,
                          const float *images,
                          size_t n,
                          float *out,
                          size_t out_len);

/**
 * Unnormalised log p(x): the logsumexp of the logits, or the output of the energy head if the model has one.
 *
 * model: the model. images: n x H x W x C. out: receives n values; out_len must be n. May be called concurrently.
 *
 * Errors: INVALID_ARGUMENT for a wrong length or an image value that is not finite.
 */
jempp_status jempp_log_density(const jempp_model *model,
                               const float *images,
                               size_t n,
                               float *out,
                               size_t out_len);

/**
 * Gradient with respect to the images of unnormalised log p(x), or if labels are given of unnormalised log p(x, y):
 * the label's logit `f(x)[y]`, or for a model with an energy head log p(x) + log p(y|x).
 *
 * model: the model. images: n x H x W x C. labels: n classes, or NULL. out: receives n x H x W x C values; out_len
 * must be n * H * W * C. May be called concurrently.
 *
 * Errors: INVALID_ARGUMENT for a wrong length, a label out of range or an image value that is not finite.
 */
jempp_status jempp_input_grad(const jempp_model *model,
                              const float *images,
                              size_t n,
                              const int32_t *labels,
                              float *out,
                              size_t out_len);

/**
 * Frees a model. Calls on it that other threads have in progress complete normally.
 *
 * model: NULL or a freed handle does nothing. Any thread; cannot fail.
 */
void jempp_model_free(jempp_model *model);

/**
 * Name of a class, such as the folder that its training images were in.
 *
 * model: the model. label: the class, counted from 0. out: receives the name in UTF-8 and a terminating zero; out_len:
 * its size in bytes. The name is empty if the model has no names. May be called concurrently. Since 1.1.
 *
 * Errors: INVALID_ARGUMENT for a class out of range, or if `out` is too small; the message says what is needed.
 */
jempp_status jempp_model_class_name(const jempp_model *model,
                                    int32_t label,
                                    char *out,
                                    size_t out_len);

/**
 * Describes what a model decides by: see jempp_decide.
 *
 * model: the model. out: receives the description; set its struct_size first. May be called concurrently. Since 1.1.
 *
 * Errors: FORMAT if the model has no thresholds; INVALID_ARGUMENT if struct_size is too small.
 */
jempp_status jempp_model_get_thresholds(const jempp_model *model,
                                        jempp_thresholds *out);

/**
 * Decides about images: label, calibrated probability, out-of-distribution p-value, and whether the model abstains.
 *
 * model: the model. images: n x H x W x C. out: receives n decisions; set the struct_size of each first; out_len must
 * be n. May be called concurrently.
 *
 * Errors: FORMAT if the model has no thresholds for abstaining (`jempp-cli eval thresholds` fits them);
 * INVALID_ARGUMENT for a wrong length or struct_size.
 */
jempp_status jempp_decide(const jempp_model *model,
                          const float *images,
                          size_t n,
                          jempp_decision *out,
                          size_t out_len);

/**
 * Logits and unnormalised log p(x) of many images, from one pass, with progress.
 *
 * model: the model. images: n x H x W x C. logits: receives n x classes values, logits_len must be n * classes; or NULL
 * and 0. log_density: receives n values, log_density_len must be n; or NULL and 0. progress: called on the calling thread
 * before the first chunk of images and after each, with the number of images done and the total; returning 0 cancels;
 * NULL for none. It may call functions on const handles. user: passed to it. May be called concurrently. Since 1.1.
 *
 * Errors: INVALID_ARGUMENT for a wrong length or an image value that is not finite; CANCELLED by `progress`.
 */
jempp_status jempp_scores(const jempp_model *model,
                          const float *images,
                          size_t n,
                          float *logits,
                          size_t logits_len,
                          float *log_density,
                          size_t log_density_len,
                          int (*progress)(uint32_t done, uint32_t total, void *user),
                          void *user);

/**
 * Number of features of a model: see jempp_features.
 *
 * model: the model. out: receives the number. May be called concurrently. Since 1.1.
 *
 * Errors: INVALID_ARGUMENT.
 */
jempp_status jempp_feature_count(const jempp_model *model, uint32_t *out);

/**
 * Features: the pooled output of the last block, which the logits are a linear function of.
 *
 * model: the model. images: n x H x W x C. out: receives n x F values, F from jempp_feature_count; out_len must be
 * n * F. May be called concurrently. Since 1.1.
 *
 * Errors: INVALID_ARGUMENT for a wrong length or an image value that is not finite.
 */
jempp_status jempp_features(const jempp_model *model,
                            const float *images,
                            size_t n,
                            float *out,
                            size_t out_len);

/**
 * Gradient with respect to the images of any function of the logits, given its gradient with respect to the logits (the
 * vector-Jacobian product of the logits).
 *
 * model: the model. images: n x H x W x C. upstream: the gradient with respect to the logits, n x classes values;
 * upstream_len must be n * classes. out: receives n x H x W x C values; out_len must be n * H * W * C. May be called
 * concurrently. Since 1.1.
 *
 * Errors: INVALID_ARGUMENT for a wrong length, or a value that is not finite.
 */
jempp_status jempp_logits_vjp(const jempp_model *model,
                              const float *images,
                              size_t n,
                              const float *upstream,
                              size_t upstream_len,
                              float *out,
                              size_t out_len);

/**
 * Evaluates a model on labelled images: accuracy and calibration.
 *
 * model: the model. images: n x H x W x C. labels: their n classes. bins: number of bins of the calibration error; 0: 20.
 * progress, user: those of jempp_scores. out: receives the metrics; set its struct_size first. May be called
 * concurrently. Since 1.1.
 *
 * Errors: INVALID_ARGUMENT if n is 0, for a label out of range, an image value that is not finite, or a struct_size that
 * is too small; CANCELLED by `progress`.
 */
jempp_status jempp_evaluate(const jempp_model *model,
                            const float *images,
                            const int32_t *labels,
                            size_t n,
                            uint32_t bins,
                            int (*progress)(uint32_t done, uint32_t total, void *user),
                            void *user,
                            jempp_evaluation *out);

/**
 * Fits the thresholds of jempp_decide to labelled images, and returns a model of the same weights that carries them;
 * jempp_model_save keeps them.
 *
 * model: the model; not modified. images: n x H x W x C, in random order, which the model was not trained on, from the
 * distribution that it will meet. labels: their n classes. alpha: error rate of the prediction sets, negative for 0.05;
 * ood_alpha: fraction of in-distribution images to reject, negative for 0.05; at least 2 / alpha images are needed.
 * progress, user: those of jempp_scores. out: receives the model; free it with jempp_model_free. May be called
 * concurrently. Since 1.1.
 *
 * Errors: INVALID_ARGUMENT for a rate that is not between 0 and 1, too few images, a label out of range, or an image value
 * that is not finite; CANCELLED by `progress`; OUT_OF_MEMORY.
 */
jempp_status jempp_fit_thresholds(const jempp_model *model,
                                  const float *images,
                                  const int32_t *labels,
                                  size_t n,
                                  double alpha,
                                  double ood_alpha,
                                  int (*progress)(uint32_t done, uint32_t total, void *user),
                                  void *user,
                                  jempp_model **out);

/**
 * Fills `options` with the defaults: the model's start samples, p(x), step count and sizes as in the model's training,
 * seed 0.
 *
 * options: receives the defaults; NULL does nothing. struct_size: sizeof(jempp_sample_options). Any thread; cannot
 * fail.
 */
void jempp_sample_options_init(jempp_sample_options *options,
                               uint32_t struct_size);

/**
 * Samples n images by stochastic gradient Langevin dynamics (SGLD), with the sampler of the model's training. Chains see
 * the batch norm statistics with which the model classifies, so an image does not depend on the others.
 *
 * model: the model. options: NULL for the defaults; what it points to is used during the call only. out: receives
 * n x H x W x C values in [-1, 1]; out_len must be n * H * W * C. May be called concurrently.
 *
 * Errors: INVALID_ARGUMENT for a wrong length, a label out of range, a parameter out of range, or a model without
 * start samples if `start` is NULL; DIVERGED if a chain left the finite numbers; CANCELLED by `progress`.
 */
jempp_status jempp_sample(const jempp_model *model,
                          const jempp_sample_options *options,
                          size_t n,
                          float *out,
                          size_t out_len);

/**
 * Creates a trainer with freshly initialised weights.
 *
 * context: the trainer computes on its device. config_toml: the configuration, a TOML document in UTF-8 with the keys
 * that `jempp-cli train --print-config` shows; keys that it does not set have the preset's values (preset "jempp" by
 * default). If it sets data.dataset, or preset = "digits", that data set is loaded: chains restart from its
 * informative initialisation, and the batch norm statistics of models can be recalibrated on it. Otherwise each step
 * needs chain_start until jempp_trainer_set_init_images is called or a model with start samples is loaded, unless
 * sampler.init = "uniform" (restarts from noise, with which the published settings collapse). train.from = "PATH" starts
 * from the weights of that model, as jempp_trainer_load_model does. Training uses only the images passed to
 * jempp_trainer_step. out: receives the trainer; free it with jempp_trainer_free. BUSY while another thread uses the
 * context.
 *
 * Errors: INVALID_ARGUMENT for an invalid configuration, naming the key; IO for a data set that cannot be read;
 * OUT_OF_MEMORY.
 */
jempp_status jempp_trainer_create(jempp_context *context,
                                  const char *config_toml,
                                  jempp_trainer **out);

/**
 * Copies the weights and running statistics of a model into a trainer. Optimiser state and step count are not changed. If
 * the model has another number of classes, the trainer keeps its own class head, with a warning to the log callback. A
 * trainer whose chains have nothing to restart from takes the start samples that the model carries, and a replay buffer of
 * them: steps then need no chain_start.
 *
 * trainer: the trainer; BUSY while another thread uses it. model: a model of the same architecture; not modified.
 *
 * Errors: INVALID_ARGUMENT if the architectures differ, naming tensors and both shapes; OUT_OF_MEMORY.
 */
jempp_status jempp_trainer_load_model(jempp_trainer *trainer,
                                      const jempp_model *model);

/**
 * Gives a trainer without a data set the images that its chains restart from (informative initialisation), and fills its
 * replay buffer with draws from the normals of the classes: steps then need no chain_start, and models of the trainer carry
 * start samples. Call it before the first step; later calls fill the buffer anew. Weights, optimiser and step count are not
 * changed.
 *
 * trainer: the trainer; BUSY while another thread uses it. images: n x H x W x C values in [-1, 1]; labels: their n
 * classes. There must be an image of every class; some hundred of each are better. All count for the class means; 5000
 * are kept, and saved by jempp_trainer_save.
 *
 * Errors: INVALID_ARGUMENT for a value outside [-1, 1], a label out of range, a class without an image, or a trainer that
 * has a data set, sampler.init = "uniform" or no chains; the trainer is then unchanged. OUT_OF_MEMORY.
 */
jempp_status jempp_trainer_set_init_images(jempp_trainer *trainer,
                                           const float *images,
                                           const int32_t *labels,
                                           size_t n);

/**
 * Runs one training step on the given images: samples the chains by SGLD, computes the loss on data, chains and
 * labelled images, and updates the weights with the learning rate of the configured schedule.
 *
 * trainer: the trainer; BUSY while another thread uses it. x_data: images for log p(x), n_data x H x W x C; n_data
 * must be train.batch_size (if log p(x) is not trained, x_data may be NULL and n_data 0). x_labelled: labelled images,
 * n_labelled x H x W x C; labels: their n_labelled classes; n_labelled must be train.labelled_batch_size, or
 * train.batch_size if that is 0. chain_start: initial images of the chains, n_chain x H x W x C, whose results are
 * then not stored in the replay buffer; NULL: draw them from the replay buffer. chain_end: receives the chains' final
 * images, n_chain x H x W x C, or NULL. n_chain must be train.batch_size unless both are NULL. metrics: receives the
 * metrics; set its struct_size first; or NULL. Images are used as they are, without data augmentation.
 *
 * Errors: INVALID_ARGUMENT for a wrong length, a label out of range, a value that is not finite, or a missing
 * chain_start if there is no replay buffer; the trainer is then unchanged. DIVERGED if the weights are no longer
 * finite: resume from a saved checkpoint.
 */
jempp_status jempp_trainer_step(jempp_trainer *trainer,
                                const float *x_data,
                                size_t n_data,
                                const float *x_labelled,
                                const int32_t *labels,
                                size_t n_labelled,
                                const float *chain_start,
                                float *chain_end,
                                size_t n_chain,
                                jempp_step_metrics *metrics);

/**
 * Returns the current model: a snapshot that later steps do not change. If the trainer has a data set, batch norm uses
 * the statistics that eval.bn selects, otherwise the running statistics.
 *
 * trainer: the trainer; BUSY while another thread uses it. out: receives the model; free it with jempp_model_free.
 *
 * Errors: OUT_OF_MEMORY; INVALID_ARGUMENT if the data set is smaller than a batch.
 */
jempp_status jempp_trainer_model(jempp_trainer *trainer,
                                 jempp_model **out);

/**
 * Saves a checkpoint: the trained model, and everything needed to resume training with bit-identical results. Saving
 * is atomic; the last three checkpoints are kept.
 *
 * trainer: the trainer; BUSY while another thread changes it. dir: a folder, created if it does not exist; pass it to
 * jempp_model_load or jempp_trainer_resume.
 *
 * Errors: IO; DIVERGED if a weight is not finite, and INVALID_ARGUMENT if another process is writing into dir; nothing
 * is saved in these cases.
 */
jempp_status jempp_trainer_save(const jempp_trainer *trainer,
                                const char *dir);

/**
 * Resumes training from the last checkpoint of jempp_trainer_save or of a jempp-cli run. A damaged checkpoint is
 * skipped for the one before it, with a warning to the log callback.
 *
 * context: the trainer computes on its device. dir: the folder. out: receives the trainer; free it with
 * jempp_trainer_free. BUSY while another thread uses the context.
 *
 * Errors: IO if there is no checkpoint; FORMAT if all are damaged; INVALID_ARGUMENT if the data set has changed.
 */
jempp_status jempp_trainer_resume(jempp_context *context,
                                  const char *dir,
                                  jempp_trainer **out);

/**
 * Frees a trainer. A call on it that another thread has in progress completes normally.
 *
 * trainer: NULL or a freed handle does nothing. Any thread; cannot fail.
 */
void jempp_trainer_free(jempp_trainer *trainer);

/**
 * Trains a model on a data set, from the first step to the last, as `jempp-cli train` does: writes metrics, samples,
 * checkpoints and the evaluation into a folder, which jempp_model_load accepts.
 *
 * context: the run computes on its device, and takes its seed if the configuration has none. BUSY while another thread
 * uses the context; it is free again when training begins. config_toml: that of jempp_trainer_create, with a data set; or
 * NULL to resume the run in `dir`. dir: the folder; must not exist, unless a run is resumed. step: called on the calling
 * thread after each step with its metrics, valid during the call, and the number of steps in total; returning 0 ends the
 * run after the step that follows, with a checkpoint from which it may be resumed; NULL for none. It may call functions on
 * const handles. user: passed to it. Since 1.1.
 *
 * Errors: INVALID_ARGUMENT for an invalid configuration, naming the key, a folder that exists, a data set that is not
 * found or has changed, or a run that has ended; IO; FORMAT if the checkpoints are damaged; DIVERGED; CANCELLED by `step`,
 * after saving; OUT_OF_MEMORY.
 */
jempp_status jempp_train(jempp_context *context,
                         const char *config_toml,
                         const char *dir,
                         int (*step)(const jempp_step_metrics *metrics, uint64_t steps, void *user),
                         void *user);

/**
 * Number of devices: the CPU, which has index 0, and the GPUs that the driver reports.
 *
 * out: receives the number. Any thread. Errors: INVALID_ARGUMENT if out is NULL.
 */
jempp_status jempp_device_count(uint32_t *out);

/**
 * Describes device `index`.
 *
 * index: less than the number from jempp_device_count. info: receives the description; set its struct_size first. Any
 * thread.
 *
 * Errors: INVALID_ARGUMENT if there is no such device or struct_size is too small.
 */
jempp_status jempp_device_get_info(uint32_t index,
                                   jempp_device_info *info);

/**
 * Sets the callback that receives log messages, such as a warning that a damaged checkpoint was skipped.
 *
 * callback: is called with a level (1 error, 2 warning, 3 information), a UTF-8 message that is valid during the call,
 * and `user`; NULL, the initial value, turns logging off. It may be called from any thread that calls the library,
 * from several at the same time, and for a short time after it was replaced. user: passed to the callback. Any thread;
 * cannot fail.
 */
void jempp_set_log_callback(void (*callback)(int32_t level, const char *message, void *user),
                            void *user);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* JEMPP_H */
