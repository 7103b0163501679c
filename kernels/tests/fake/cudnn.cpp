// A libcudnn.so.9 of plain loops, for the tests of the wrappers over it: float32, or bf16 added up in float32 and
// rounded once; NHWC with KRSC filters. It works through the fake driver, so that it can be captured. Convolutions, and
// graphs that begin or end with one, are run by the graph API (cudnn_graph.h); batch norm by the API of old.
//
// How long an engine takes is made up (fake_spend), so that choices between engines do not depend on this machine's
// load. With FAKE_CUDNN_FLAKY set, the order of engines 11 and 12 is the other way round, and there is engine 16: the
// fastest, with other values each time. With FAKE_CUDNN_REFUSES set there are no engines.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

extern "C" int fake_ask(void* stream, void (*work)(const void*), const void* given, size_t bytes);
extern "C" void fake_spend(double seconds);

struct Tensor {
    int n, c, h, w, type;
};
enum { OK = 0, BAD = 2000, MISALIGNED = 2003, UNSUPPORTED = 3000 };

struct Handle {
    void* stream;
};

API size_t cudnnGetVersion() { return 91000; }
API void cudnnGetLastErrorString(char* text, size_t size) { strncpy(text, "said by the tests", size); }
API int cudnnCreate(void** handle)
{
    *handle = new Handle{};
    return OK;
}
extern "C" int cuCtxSynchronize();
API int cudnnDestroy(void* handle)
{
    cuCtxSynchronize();
    delete (Handle*)handle;
    return OK;
}
API int cudnnSetStream(void* handle, void* stream)
{
    ((Handle*)handle)->stream = stream;
    return OK;
}

API int cudnnCreateTensorDescriptor(Tensor** d)
{
    *d = new Tensor();
    return OK;
}
API int cudnnDestroyTensorDescriptor(Tensor* d)
{
    delete d;
    return OK;
}

// NHWC is format 1, float32 type 0, bf16 type 9.
enum { FLOAT = 0, BF16 = 9 };
static bool known(int type) { return type == FLOAT || type == BF16; }
API int cudnnSetTensor4dDescriptor(Tensor* d, int format, int type, int n, int c, int h, int w)
{
    *d = {n, c, h, w, type};
    return format == 1 && known(type) && n > 0 && c > 0 && h > 0 && w > 0 ? OK : BAD;
}

static bool flaky() { return getenv("FAKE_CUDNN_FLAKY") != nullptr; }

#include "convolution.h"
#include "cudnn_graph.h"
#include "batch_norm.h"
