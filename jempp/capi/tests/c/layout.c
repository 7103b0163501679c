/* Asserts the ABI: sizes and offsets of the structs on 64-bit machines, in C and in C++. */
#include <jempp.h>

#define SAME(name, a, b) typedef char name[(a) == (b) ? 1 : -1]
#define AT(type, field, offset) SAME(type##_##field, offsetof(type, field), offset)
#define SIZE(type, size) SAME(type##_size, sizeof(type), size)

SIZE(jempp_status, 4);

SIZE(jempp_context_options, 40);
AT(jempp_context_options, struct_size, 0);
AT(jempp_context_options, device, 8);
AT(jempp_context_options, threads, 16);
AT(jempp_context_options, seed, 24);
AT(jempp_context_options, precision, 32);

SIZE(jempp_model_info, 32);
AT(jempp_model_info, struct_size, 0);
AT(jempp_model_info, height, 4);
AT(jempp_model_info, width, 8);
AT(jempp_model_info, channels, 12);
AT(jempp_model_info, classes, 16);
AT(jempp_model_info, parameters, 24);

SIZE(jempp_decision, 24);
AT(jempp_decision, struct_size, 0);
AT(jempp_decision, label, 4);
AT(jempp_decision, probability, 8);
AT(jempp_decision, log_density, 12);
AT(jempp_decision, ood_p_value, 16);
AT(jempp_decision, abstain, 20);

SIZE(jempp_thresholds, 36);
AT(jempp_thresholds, struct_size, 0);
AT(jempp_thresholds, images, 4);
AT(jempp_thresholds, temperature, 8);
AT(jempp_thresholds, nll_before, 12);
AT(jempp_thresholds, nll_after, 16);
AT(jempp_thresholds, probability, 20);
AT(jempp_thresholds, alpha, 24);
AT(jempp_thresholds, ood_alpha, 28);
AT(jempp_thresholds, coverage, 32);

SIZE(jempp_sample_options, 72);
AT(jempp_sample_options, struct_size, 0);
AT(jempp_sample_options, start, 8);
AT(jempp_sample_options, start_len, 16);
AT(jempp_sample_options, labels, 24);
AT(jempp_sample_options, steps, 32);
AT(jempp_sample_options, step_size, 36);
AT(jempp_sample_options, clip, 40);
AT(jempp_sample_options, noise, 44);
AT(jempp_sample_options, seed, 48);
AT(jempp_sample_options, progress, 56);
AT(jempp_sample_options, user, 64);

SIZE(jempp_step_metrics, 40);
AT(jempp_step_metrics, struct_size, 0);
AT(jempp_step_metrics, step, 8);
AT(jempp_step_metrics, loss, 16);
AT(jempp_step_metrics, ce, 20);
AT(jempp_step_metrics, log_density_data, 24);
AT(jempp_step_metrics, log_density_chain, 28);
AT(jempp_step_metrics, accuracy, 32);
AT(jempp_step_metrics, lr, 36);

SIZE(jempp_evaluation, 40);
AT(jempp_evaluation, struct_size, 0);
AT(jempp_evaluation, accuracy, 8);
AT(jempp_evaluation, ece, 16);
AT(jempp_evaluation, nll, 24);
AT(jempp_evaluation, brier, 32);

SIZE(jempp_device_info, 160);
AT(jempp_device_info, struct_size, 0);
AT(jempp_device_info, ordinal, 4);
AT(jempp_device_info, name, 8);
AT(jempp_device_info, memory_total, 136);
AT(jempp_device_info, memory_free, 144);
AT(jempp_device_info, is_cuda, 152);
AT(jempp_device_info, compute_capability, 156);

SAME(ok, JEMPP_OK, 0);
SAME(invalid_argument, JEMPP_ERR_INVALID_ARGUMENT, 1);
SAME(io, JEMPP_ERR_IO, 2);
SAME(format, JEMPP_ERR_FORMAT, 3);
SAME(device, JEMPP_ERR_DEVICE, 4);
SAME(out_of_memory, JEMPP_ERR_OUT_OF_MEMORY, 5);
SAME(busy, JEMPP_ERR_BUSY, 6);
SAME(diverged, JEMPP_ERR_DIVERGED, 7);
SAME(cancelled, JEMPP_ERR_CANCELLED, 8);
SAME(internal, JEMPP_ERR_INTERNAL, 9);
SAME(abi, JEMPP_ABI_VERSION, 1);
SAME(abi_minor, JEMPP_ABI_MINOR, 1);
