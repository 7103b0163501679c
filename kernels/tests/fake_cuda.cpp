// A libcuda.so.1 without a GPU, for the tests of the probe and of the wrappers over the driver.
//
// It has the symbols that the probe asks for and no others, so that a wrapper which needs one more is found out (and
// cuGetExportTable, which NVRTC takes from any driver it finds). Its device memory is memory of the process. It runs the logsumexp kernel itself, compiled here by the C++ compiler:
// each lane of a warp is a fiber, and a shuffle or vote waits until all lanes have come to it.
//
//   -DFAKE_BARE       a library with cuInit only: symbols are missing
//   -DFAKE_INIT=100   cuInit answers with that error
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

#ifndef FAKE_INIT
#define FAKE_INIT 0
#endif

API int cuInit(unsigned) { return FAKE_INIT; }

#ifndef FAKE_BARE

// ---- A warp of fibers -------------------------------------------------------------------------------------------

struct Dim {
    unsigned x, y, z;
};
static constexpr int WARP = 32;
static Dim gridDim, blockDim, blockIdx, threadIdx;
static struct {
    ucontext_t home, lane[WARP];
    bool done[WARP];
    int now;
    unsigned warp;
    uint32_t slots[2][WARP];
    int turn[WARP];
    void (*body)();
} fibers;

static void enter(int lane)
{
    fibers.now = lane;
    threadIdx = {fibers.warp * WARP + lane, 0, 0};
}

static void first()
{
    fibers.body();
    fibers.done[fibers.now] = true;
    swapcontext(&fibers.lane[fibers.now], &fibers.home);
}

// Puts a value where the other lanes see it and comes back when all of them have put theirs.
static const uint32_t* meet(uint32_t bits)
{
    const int lane = fibers.now;
    uint32_t* slots = fibers.slots[fibers.turn[lane]++ % 2];
    slots[lane] = bits;
    swapcontext(&fibers.lane[lane], &fibers.home);
    return slots;
}

static void run_warp(unsigned warp, void (*body)())
{
    static std::vector<char> stacks(WARP * 65536);
    fibers.body = body;
    fibers.warp = warp;
    for (int lane = 0; lane < WARP; lane++) {
        fibers.done[lane] = false;
        fibers.turn[lane] = 0;
        getcontext(&fibers.lane[lane]);
        fibers.lane[lane].uc_stack.ss_sp = &stacks[lane * 65536];
        fibers.lane[lane].uc_stack.ss_size = 65536;
        makecontext(&fibers.lane[lane], first, 0);
    }
    for (bool any = true; any;) {
        any = false;
        for (int lane = 0; lane < WARP; lane++) {
            if (!fibers.done[lane]) {
                enter(lane);
                swapcontext(&fibers.home, &fibers.lane[lane]);
                any |= !fibers.done[lane];
            }
        }
    }
}

static uint32_t bits_of(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return bits;
}
static float __int_as_float(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, 4);
    return v;
}
static float __shfl_xor_sync(unsigned, float v, int mask)
{
    const int lane = fibers.now;
    return __int_as_float(meet(bits_of(v))[lane ^ mask]);
}
static int __any_sync(unsigned, int vote)
{
    const uint32_t* votes = meet(vote != 0);
    int any = 0;
    for (int lane = 0; lane < WARP; lane++) {
        any |= votes[lane] != 0;
    }
    return any;
}
#define __global__
#define __device__
#define __forceinline__ inline
#include "logsumexp.cu"

// ---- Launches, and the recording of them ------------------------------------------------------------------------

struct Launch {
    unsigned grid, block;
    const float* x;
    float* out;
    long long rows, cols;
};
static Launch running;
static bool capturing;
static std::vector<Launch> captured;

static void run(const Launch& launch)
{
    running = launch;
    gridDim = {launch.grid, 1, 1};
    blockDim = {launch.block, 1, 1};
    for (unsigned block = 0; block < launch.grid; block++) {
        blockIdx = {block, 0, 0};
        for (unsigned warp = 0; warp < launch.block / WARP; warp++) {
            run_warp(warp, [] { logsumexp_rows_f32(running.x, running.out, running.rows, running.cols); });
        }
    }
}

API int cuLaunchKernel(void*, unsigned gx, unsigned, unsigned, unsigned bx, unsigned, unsigned, unsigned, void*,
                       void** args, void**)
{
    Launch launch = {gx, bx, *(const float**)args[0], *(float**)args[1], *(long long*)args[2], *(long long*)args[3]};
    if (capturing) {
        captured.push_back(launch);
    } else {
        run(launch);
    }
    return 0;
}

API int cuStreamBeginCapture_v2(void*, int)
{
    capturing = true;
    captured.clear();
    return 0;
}
API int cuStreamEndCapture(void*, void** graph)
{
    capturing = false;
    *graph = new std::vector<Launch>(captured);
    return 0;
}
API int cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long)
{
    *exec = new std::vector<Launch>(*(std::vector<Launch>*)graph);
    return 0;
}
API int cuGraphLaunch(void* exec, void*)
{
    for (const Launch& launch : *(std::vector<Launch>*)exec) {
        run(launch);
    }
    return 0;
}
API int cuGraphExecDestroy(void* exec)
{
    delete (std::vector<Launch>*)exec;
    return 0;
}
API int cuGraphDestroy(void* graph)
{
    delete (std::vector<Launch>*)graph;
    return 0;
}

// ---- The rest ---------------------------------------------------------------------------------------------------

static void* context;

API int cuGetExportTable(const void**, const void*) { return 500; }
API int cuDriverGetVersion(int* version)
{
    *version = 13000;
    return 0;
}
API int cuGetErrorName(int code, const char** name)
{
    *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : code == 900 ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" : nullptr;
    return *name ? 0 : 1;
}
API int cuGetErrorString(int code, const char** text)
{
    return cuGetErrorName(code, text);
}
API int cuDeviceGetCount(int* count)
{
    *count = 1;
    return 0;
}
API int cuDeviceGet(int* device, int ordinal)
{
    *device = ordinal;
    return ordinal == 0 ? 0 : 101;
}
API int cuDeviceGetName(char* name, int size, int)
{
    strncpy(name, "Fake of the tests", size);
    return 0;
}
API int cuDeviceTotalMem_v2(size_t* bytes, int)
{
    *bytes = size_t(8) << 30;
    return 0;
}
API int cuDeviceGetAttribute(int* value, int attribute, int)
{
    // Compute capability 9.0, 4 multiprocessors, memory pools.
    *value = attribute == 75 ? 9 : attribute == 16 ? 4 : attribute == 115 ? 1 : 0;
    return 0;
}
API int cuDevicePrimaryCtxRetain(void** out, int)
{
    *out = &context;
    return 0;
}
API int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
API int cuCtxGetCurrent(void** out)
{
    *out = context;
    return 0;
}
API int cuCtxSetCurrent(void* now)
{
    context = now;
    return 0;
}
API int cuCtxSynchronize() { return capturing ? 900 : 0; }
API int cuStreamCreate(void** stream, unsigned)
{
    *stream = malloc(1);
    return 0;
}
API int cuStreamDestroy_v2(void* stream)
{
    free(stream);
    return 0;
}
API int cuStreamSynchronize(void*) { return capturing ? 900 : 0; }
API int cuMemAlloc_v2(void** memory, size_t bytes)
{
    // As the driver does, and filled with something that is not zero.
    *memory = bytes && !capturing ? malloc(bytes) : nullptr;
    if (*memory) {
        memset(*memory, 0xa5, bytes);
    }
    return *memory ? 0 : 1;
}
API int cuMemAllocAsync(void** memory, size_t bytes, void*) { return cuMemAlloc_v2(memory, bytes); }
API int cuMemFree_v2(void* memory)
{
    free(memory);
    return 0;
}
API int cuMemFreeAsync(void* memory, void*) { return capturing ? 900 : cuMemFree_v2(memory); }
API int cuMemGetInfo_v2(size_t* free, size_t* total)
{
    *free = size_t(7) << 30;
    *total = size_t(8) << 30;
    return 0;
}
API int cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t bytes, void*)
{
    memcpy(to, from, bytes);
    return 0;
}
API int cuMemcpyDtoHAsync_v2(void* to, const void* from, size_t bytes, void*)
{
    memcpy(to, from, bytes);
    return 0;
}
API int cuMemsetD8Async(void* to, unsigned char value, size_t bytes, void*)
{
    memset(to, value, bytes);
    return 0;
}
API int cuModuleLoadData(void** module, const void* image)
{
    *module = malloc(1);
    return memcmp(image, "\177ELF", 4) == 0 ? 0 : 200;
}
API int cuModuleUnload(void* module)
{
    free(module);
    return 0;
}
API int cuModuleGetFunction(void** function, void* module, const char* name)
{
    *function = module;
    return strcmp(name, "logsumexp_rows_f32") == 0 ? 0 : 500;
}

#endif
