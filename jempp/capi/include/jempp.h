/*
 * jempp.h - the C interface of jempp: load, classify, sample and train joint energy-based models.
 *
 * Compiles as C99 and as C++11. Rules that hold for every function:
 *
 * Images are float32, N x H x W x C, last index fastest, with values in [-1, 1]. Lengths are numbers of elements, never of
 * bytes, and must be exact.
 *
 * Threads: what takes a const handle may be called from several threads at once on the same handle; what takes a handle
 * that is not const, by one at a time: others get JEMPP_ERR_BUSY. A model is immutable, and each call on it borrows a
 * workspace from a bounded pool (as many as the context has threads, and one), waiting for it if need be. Results depend
 * neither on the number of threads nor on the batch around an image: the same bits each time.
 *
 * Ownership: what a function gives out through `out` is the caller's, to be freed by the _free of its type; each takes
 * NULL. Handles are numbers that are looked up and never followed: one that was freed, never made or of another type is
 * JEMPP_ERR_INVALID_ARGUMENT, and freeing it does nothing. Objects do not depend on the order in which they are freed.
 * Memory that is passed in is only used during the call, unless said otherwise.
 *
 * Errors: every function that can fail returns a jempp_status and leaves its message in jempp_last_error. On failure
 * nothing is written to the caller's memory. JEMPP_ERR_INTERNAL is an error in the library: the handles of that call then
 * answer nothing else; free them, and please report the message.
 *
 * The library writes nothing to stdout or stderr and installs no signal handlers. Callbacks must return: neither C++
 * exceptions nor longjmp may pass through the library.
 */


#ifndef JEMPP_H
#define JEMPP_H

#include <stddef.h>
#include <stdint.h>


/**
 * The number of this header's ABI: it changes when a program compiled against the old header would break.
 */
#define JEMPP_ABI_VERSION 1

/**
 * Where things run: a device with its threads. Opaque; see jempp_context_create.
 */
typedef struct jempp_context jempp_context;

/**
 * A trained model. Opaque and immutable; see jempp_model_load.
 */
typedef struct jempp_model jempp_model;

/**
 * A model in training. Opaque; see jempp_trainer_create.
 */
typedef struct jempp_trainer jempp_trainer;

/**
 * What a function answers: one of the numbers below. They never change their meaning.
 */
typedef int32_t jempp_status;

/**
 * How a context is made. Set by jempp_context_options_init, then changed by the caller.
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
     * CPU threads of the context; 0: one a core. Results do not depend on it.
     */
    int32_t threads;
    /**
     * Seed of trainers whose configuration names none; 0: the configuration's own default.
     */
    uint64_t seed;
    /**
     * "f32", or on a GPU "tf32" or "bf16". NULL: "f32".
     */
    const char *precision;
} jempp_context_options;

/**
 * What a model is.
 */
typedef struct {
    /**
     * sizeof(jempp_model_info), set by the caller.
     */
    uint32_t struct_size;
    /**
     * Height of its images.
     */
    uint32_t height;
    /**
     * Width of its images.
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
     * Number of trained values.
     */
    uint64_t parameters;
} jempp_model_info;

/**
 * What a model decides about an image.
 */
typedef struct {
    /**
     * sizeof(jempp_decision), set by the caller.
     */
    uint32_t struct_size;
    /**
     * The likeliest class.
     */
    int32_t label;
    /**
     * Its probability, calibrated.
     */
    float probability;
    /**
     * Unnormalised log p(x).
     */
    float log_density;
    /**
     * Share of images like the training data that are as unlikely as this one.
     */
    float ood_p_value;
    /**
     * 1 where the model had better not answer, else 0.
     */
    int32_t abstain;
} jempp_decision;

/**
 * How chains are run. Set by jempp_sample_options_init, then changed by the caller.
 */
typedef struct {
    /**
     * sizeof(jempp_sample_options).
     */
    uint32_t struct_size;
    /**
     * Where the chains start, n x H x W x C; NULL: at draws that the model carries.
     */
    const float *start;
    /**
     * Elements of `start`: n * H * W * C, or 0.
     */
    size_t start_len;
    /**
     * n classes that the chains follow, climbing log p(x, y); NULL: they climb log p(x).
     */
    const int32_t *labels;
    /**
     * Outer steps of a chain; 0: as many as in the model's training.
     */
    uint32_t steps;
    /**
     * Size of one of the inner steps; negative: as in the model's training.
     */
    float step_size;
    /**
     * Bound on each component of the gradient, 0 for none; negative: as in the model's training.
     */
    float clip;
    /**
     * Standard deviation of the noise of each step; negative: as in the model's training.
     */
    float noise;
    /**
     * Seed of starts and noise: the same seed gives the same images.
     */
    uint64_t seed;
    /**
     * Called after each step with steps done and steps in all (chains run in chunks, and these are over all of them), in the
     * calling thread; returning 0 cancels. NULL: nobody is told. It may call functions on const handles.
     */
    int (*progress)(uint32_t step, uint32_t steps, void *user);
    /**
     * Given to `progress`.
     */
    void *user;
} jempp_sample_options;

/**
 * What a training step measured.
 */
typedef struct {
    /**
     * sizeof(jempp_step_metrics), set by the caller.
     */
    uint32_t struct_size;
    /**
     * Steps done, this one included.
     */
    uint64_t step;
    /**
     * The loss.
     */
    float loss;
    /**
     * Mean cross-entropy of the labelled images.
     */
    float ce;
    /**
     * Mean unnormalised log p(x) of the data; NaN if that is not trained.
     */
    float log_density_data;
    /**
     * The same of the chains.
     */
    float log_density_chain;
    /**
     * Share of the labelled images that were classified right.
     */
    float accuracy;
    /**
     * The step's learning rate.
     */
    float lr;
} jempp_step_metrics;

/**
 * A device.
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
     * Its name, ending in a zero, cut short if need be.
     */
    char name[128];
    /**
     * Bytes of memory; 0: unknown.
     */
    uint64_t memory_total;
    /**
     * Bytes of it that are free; 0: unknown, as for a GPU, which is not opened to ask.
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
 * Done.
 */
#define JEMPP_OK 0

/**
 * An argument cannot be: NULL, a wrong length, a value out of range, a handle that is none (any more).
 */
#define JEMPP_ERR_INVALID_ARGUMENT 1

/**
 * The system refused a file operation, or nothing is at the path.
 */
#define JEMPP_ERR_IO 2

/**
 * A file is not what its format says, or lacks what was asked for.
 */
#define JEMPP_ERR_FORMAT 3

/**
 * A compute device is missing or failed.
 */
#define JEMPP_ERR_DEVICE 4

/**
 * There is not enough memory.
 */
#define JEMPP_ERR_OUT_OF_MEMORY 5

/**
 * Another thread is using the handle.
 */
#define JEMPP_ERR_BUSY 6

/**
 * Training or a chain left the numbers that it can recover from.
 */
#define JEMPP_ERR_DIVERGED 7

/**
 * A callback asked to stop.
 */
#define JEMPP_ERR_CANCELLED 8

/**
 * An error in the library; the handles of the call are dead from now on.
 */
#define JEMPP_ERR_INTERNAL 9

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The number of the library's ABI; compare it with JEMPP_ABI_VERSION. Any thread; cannot fail.
 */
uint32_t jempp_abi_version(void);

/**
 * The library's version, such as "0.1.0".
 *
 * Returns a string that lives as long as the process. Any thread; cannot fail.
 */
const char *jempp_version(void);

/**
 * The message of this thread's last call that returned a jempp_status: what went wrong and what to do about it, or "" if
 * it returned JEMPP_OK.
 *
 * Returns UTF-8, never NULL; it belongs to the library and lives until this thread's next such call. Any thread.
 */
const char *jempp_last_error(void);

/**
 * The name of a status, such as "JEMPP_ERR_BUSY", or "unknown status".
 *
 * Returns a string that lives as long as the process. Any thread; cannot fail.
 */
const char *jempp_status_string(jempp_status status);

/**
 * Fills `options` with the defaults: device "auto", all threads, no seed, precision "f32".
 *
 * options: what is filled; NULL does nothing. struct_size: sizeof(jempp_context_options). Any thread; cannot fail.
 */
void jempp_context_options_init(jempp_context_options *options,
                                uint32_t struct_size);

/**
 * Makes a context: opens the device and starts its threads.
 *
 * options: how, or NULL for the defaults; used during the call only. out: receives the context; free it with
 * jempp_context_free, before or after the models and trainers made in it. Any thread.
 *
 * Errors: INVALID_ARGUMENT for options that cannot be or a struct_size that is too small; DEVICE if the device is not
 * there, saying what was looked for.
 */
jempp_status jempp_context_create(const jempp_context_options *options,
                                  jempp_context **out);

/**
 * Frees a context. Models and trainers made in it live on, and its threads with them.
 *
 * context: what is freed; NULL, or what was freed already, does nothing. Any thread; cannot fail.
 */
void jempp_context_free(jempp_context *context);

/**
 * Loads a trained model.
 *
 * context: where the model computes. path: a run's folder, a checkpoint's folder, or a safetensors file; UTF-8, or on Unix
 * any bytes. A file is mapped and read as far as it is needed: it may be replaced or deleted while the model lives, but
 * not written into. out: receives the model; free it with jempp_model_free. Another thread's call on the context is BUSY.
 *
 * Errors: IO if nothing that can be read is at the path; FORMAT if it is damaged, or no model of jempp's.
 */
jempp_status jempp_model_load(jempp_context *context,
                              const char *path,
                              jempp_model **out);

/**
 * Loads a trained model from the content of its safetensors file.
 *
 * context: where the model computes. data: `len` bytes, which are copied. out: receives the model; free it with
 * jempp_model_free. Another thread's call on the context is BUSY.
 *
 * Errors: FORMAT if the content is damaged, or no model of jempp's.
 */
jempp_status jempp_model_load_memory(jempp_context *context,
                                     const void *data,
                                     size_t len,
                                     jempp_model **out);

/**
 * Writes a model to a safetensors file, whole or not at all; a file that is there is replaced.
 *
 * model: what is written. path: the file; its folder must exist. Any number of threads at once.
 *
 * Errors: IO.
 */
jempp_status jempp_model_save(const jempp_model *model, const char *path);

/**
 * Says what a model is.
 *
 * model: which. info: is filled; its struct_size must be set. Any number of threads at once.
 *
 * Errors: INVALID_ARGUMENT if struct_size is too small.
 */
jempp_status jempp_model_get_info(const jempp_model *model, jempp_model_info *info);

/**
 * Logits `f(x)[y]`: softmax over them is p(y | x).
 *
 * model: which. images: n x H x W x C. out: receives n x classes; out_len must be n * classes. Any number of threads at
 * once.
 *
 * Errors: INVALID_ARGUMENT for a wrong length or an image with a value that is not finite.
 */
jempp_status jempp_logits(const jempp_model *model,
                          const float *images,
                          size_t n,
                          float *out,
                          size_t out_len);

/**
 * Unnormalised log p(x): logsumexp over the logits, or the output of the energy head.
 *
 * model: which. images: n x H x W x C. out: receives n values; out_len must be n. Any number of threads at once.
 *
 * Errors: INVALID_ARGUMENT for a wrong length or an image with a value that is not finite.
 */
jempp_status jempp_log_density(const jempp_model *model,
                               const float *images,
                               size_t n,
                               float *out,
                               size_t out_len);

/**
 * Gradient by the images: of log p(x), or with labels of the logit `f(x)[y]`.
 *
 * model: which. images: n x H x W x C. labels: n classes, or NULL. out: receives n x H x W x C; out_len must be that. Any
 * number of threads at once.
 *
 * Errors: INVALID_ARGUMENT for a wrong length, a label that is no class or an image with a value that is not finite.
 */
jempp_status jempp_input_grad(const jempp_model *model,
                              const float *images,
                              size_t n,
                              const int32_t *labels,
                              float *out,
                              size_t out_len);

/**
 * Decides about images: label, calibrated probability, how far from the training data, and whether to abstain.
 *
 * model: which. images: n x H x W x C. out: n decisions, each with its struct_size set, are filled; out_len must be n. Any
 * number of threads at once.
 *
 * Errors: FORMAT while the model carries no thresholds to decide by; INVALID_ARGUMENT for a wrong length or struct_size.
 */
jempp_status jempp_decide(const jempp_model *model,
                          const float *images,
                          size_t n,
                          jempp_decision *out,
                          size_t out_len);

/**
 * Frees a model. Calls on it that are under way in other threads end first, and well.
 *
 * model: what is freed; NULL, or what was freed already, does nothing. Any thread; cannot fail.
 */
void jempp_model_free(jempp_model *model);

/**
 * Fills `options` with the defaults: draws that the model carries, log p(x), constants as in the model's training, seed 0.
 *
 * options: what is filled; NULL does nothing. struct_size: sizeof(jempp_sample_options). Any thread; cannot fail.
 */
void jempp_sample_options_init(jempp_sample_options *options,
                               uint32_t struct_size);

/**
 * Draws n images: chains of Langevin steps under the model, as in its training.
 *
 * model: which. options: how, or NULL for the defaults; what it points to is used during the call only. out: receives
 * n x H x W x C, in [-1, 1]; out_len must be that. Any number of threads at once.
 *
 * Errors: INVALID_ARGUMENT for a wrong length, a label that is no class, constants out of range, or a model that carries no
 * draws where `start` is NULL; DIVERGED if a chain left the finite numbers; CANCELLED by `progress`.
 */
jempp_status jempp_sample(const jempp_model *model,
                          const jempp_sample_options *options,
                          size_t n,
                          float *out,
                          size_t out_len);

/**
 * Makes a trainer with fresh weights.
 *
 * context: where it computes. config_toml: the configuration, a TOML document in UTF-8 with the keys that `jempp-cli train
 * --print-config` shows; what it does not name is the preset's ("jempp" unless it names another). If it names
 * data.dataset, or preset = "digits", that data set is loaded, for chains to restart from and for the statistics of batch
 * norm that models are given; else each step needs chain_start, unless sampler.init = "uniform" (restarts from noise).
 * No image is trained on but those given to jempp_trainer_step. out: receives the trainer; free it with
 * jempp_trainer_free. Another thread's call on the context is BUSY.
 *
 * Errors: INVALID_ARGUMENT for a configuration that cannot be, naming the key; IO for a data set that cannot be read;
 * OUT_OF_MEMORY.
 */
jempp_status jempp_trainer_create(jempp_context *context,
                                  const char *config_toml,
                                  jempp_trainer **out);

/**
 * Gives a trainer the weights and running statistics of a model, to go on from. Optimiser, replay buffer and step number
 * stay as they are.
 *
 * trainer: what is changed; another thread's call on it is BUSY. model: of the same architecture; it is only read.
 *
 * Errors: INVALID_ARGUMENT if the architecture is another.
 */
jempp_status jempp_trainer_load_model(jempp_trainer *trainer,
                                      const jempp_model *model);

/**
 * One training step on images that are given: the chains move, then data, chains and labelled images pass through the
 * network, then the weights change, with the learning rate that the configuration's schedule says.
 *
 * trainer: what is changed; another thread's call on it is BUSY. x_data: n_data x H x W x C, the images for log p(x); n_data
 * must be train.batch_size (if log p(x) is not trained, x_data may be NULL and n_data 0). x_labelled: n_labelled x H x W x C
 * with labels: n_labelled classes; n_labelled must be train.labelled_batch_size, or train.batch_size if that is 0.
 * chain_start: n_chain x H x W x C, where the chains start (they then do not go into the replay buffer), or NULL: rows of
 * the buffer. chain_end: receives where they end, n_chain x H x W x C, or NULL. n_chain must be train.batch_size unless
 * both are NULL. metrics: is filled, its struct_size must be set; or NULL. Images are taken as they are: nothing is
 * augmented.
 *
 * Errors: INVALID_ARGUMENT for a wrong length, a label that is no class, a value that is not finite, or no chain_start where
 * there is no buffer: then nothing has changed. DIVERGED once the weights are lost: resume from a saved trainer.
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
 * The model as training has made it so far: a snapshot that later steps do not change. Batch norm has the statistics that
 * eval.bn names if the trainer has a data set, else the running ones.
 *
 * trainer: which; another thread's call on it is BUSY. out: receives the model; free it with jempp_model_free.
 *
 * Errors: OUT_OF_MEMORY; INVALID_ARGUMENT if the data set is smaller than a batch.
 */
jempp_status jempp_trainer_model(jempp_trainer *trainer,
                                 jempp_model **out);

/**
 * Saves a checkpoint: everything that training needs to go on bit by bit, and the model to be served. It is whole or not
 * there; the last three stay.
 *
 * trainer: which; a thread that changes it makes this BUSY. dir: a folder, made if need be; jempp_model_load and
 * jempp_trainer_resume take it.
 *
 * Errors: IO; DIVERGED if a weight is not finite, and INVALID_ARGUMENT if another process is writing into dir: then nothing
 * was saved.
 */
jempp_status jempp_trainer_save(const jempp_trainer *trainer,
                                const char *dir);

/**
 * Goes on where jempp_trainer_save, or a run of jempp-cli, left off. A damaged checkpoint is passed over for the one before
 * it, which the log callback is told.
 *
 * context: where it computes. dir: the folder. out: receives the trainer; free it with jempp_trainer_free. Another thread's
 * call on the context is BUSY.
 *
 * Errors: IO if there is no checkpoint; FORMAT if none is whole; INVALID_ARGUMENT if the data set is not what it was.
 */
jempp_status jempp_trainer_resume(jempp_context *context,
                                  const char *dir,
                                  jempp_trainer **out);

/**
 * Frees a trainer. A call on it that is under way in another thread ends first, and well.
 *
 * trainer: what is freed; NULL, or what was freed already, does nothing. Any thread; cannot fail.
 */
void jempp_trainer_free(jempp_trainer *trainer);

/**
 * Number of devices: the CPU, which is the first, and the GPUs that the driver shows.
 *
 * out: receives the number. Any thread. Errors: INVALID_ARGUMENT if out is NULL.
 */
jempp_status jempp_device_count(uint32_t *out);

/**
 * Says what device number `index` is.
 *
 * index: below the number that jempp_device_count gives. info: is filled; its struct_size must be set. Any thread.
 *
 * Errors: INVALID_ARGUMENT if there is no such device or struct_size is too small.
 */
jempp_status jempp_device_get_info(uint32_t index,
                                   jempp_device_info *info);

/**
 * Sets who hears what the library has to say, such as a damaged checkpoint that was passed over.
 *
 * callback: is called with a level (1 error, 2 warning, 3 information), a message in UTF-8 that lives during the call, and
 * `user`; NULL turns it off, as it is at first. It may be called from any thread that calls the library, also at once from
 * several, and from another thread shortly after it was replaced. user: is passed on. Any thread; cannot fail.
 */
void jempp_set_log_callback(void (*callback)(int32_t level, const char *message, void *user),
                            void *user);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* JEMPP_H */
