// A libcuda.so.1 without a GPU, for the tests of the probe, of the wrappers over the driver and of programs.
//
// It has the symbols that the probe asks for and no others, so that a wrapper which needs one more is found out (and
// cuGetExportTable, which NVRTC takes from any driver it finds). Its device memory is memory of the process, its
// streams do everything at once, its graphs are lists of the captured work. It runs the project's kernels by name on
// cuda/emulate, independent of the loaded code.
//
//   -DFAKE_BARE       a library with cuInit only: symbols are missing
//   -DFAKE_INIT=100   cuInit answers with that error
//   -DFAKE_KERNELS    with the kernels, which are compiled beside it
// At run time FAKE_MEMORY is how many bytes the device has free at first.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

#ifndef FAKE_INIT
#define FAKE_INIT 0
#endif

API int cuInit(unsigned) { return FAKE_INIT; }

#ifndef FAKE_BARE

// ---- Work, done at once or recorded -----------------------------------------------------------------------------

using Work = std::function<int()>;

// What a capture has of one stream: work, and where it records an event or waits for one.
struct Item {
    Work work;
    void *recorded, *awaited;
};
// The streams of a capture: that which began it, then those that wait for its events. A replay does their work in turn, now
// the first stream's as early as it can, now the last one's, so that what does not wait as it must shows.
struct Graph {
    std::vector<std::pair<void*, std::vector<Item>>> streams;

    std::vector<Item>* of(void* stream)
    {
        for (auto& s : streams) {
            if (s.first == stream) {
                return &s.second;
            }
        }
        return nullptr;
    }
    bool has_recorded(void* event) const
    {
        for (const auto& s : streams)
            for (const Item& item : s.second) {
                if (item.recorded == event) {
                    return true;
                }
            }
        return false;
    }
    int replay() const
    {
        static std::atomic<int> replays;
        const bool backwards = replays++ % 2;
        std::vector<size_t> next(streams.size());
        std::set<void*> recorded;
        for (bool moved = true; moved;) {
            moved = false;
            for (size_t i = 0; i < streams.size() && !moved; i++) {
                const size_t k = backwards ? streams.size() - 1 - i : i;
                const auto& items = streams[k].second;
                while (next[k] < items.size() && (!items[next[k]].awaited || recorded.count(items[next[k]].awaited))) {
                    const Item& item = items[next[k]++];
                    moved = true;
                    if (item.recorded) {
                        recorded.insert(item.recorded);
                    }
                    if (const int code = item.work ? item.work() : 0) {
                        return code;
                    }
                    if (!item.work) {
                        break; // Others may go on now.
                    }
                }
            }
        }
        for (size_t k = 0; k < streams.size(); k++) {
            if (next[k] < streams[k].second.size()) {
                return 719;
            }
        }
        return 0;
    }
};

// One capture at a time, by one thread. A call that is not allowed meanwhile spoils it, whichever thread makes it.
static std::atomic<bool> capturing, spoiled;
static std::thread::id capturer;
static Graph captured;

enum { NOT_IN_CAPTURE = 900, CAPTURE_SPOILED = 901, UNJOINED = 904 };

// What waits for the captured stream or frees its memory.
static int outside_capture()
{
    spoiled = spoiled || capturing;
    return capturing ? NOT_IN_CAPTURE : 0;
}
// What the capturing thread may not do, while others may.
static int not_by_capturer() { return std::this_thread::get_id() == capturer ? outside_capture() : 0; }

static int ask(void* stream, Work work)
{
    if (!capturing) {
        return work();
    }
    auto* items = captured.of(stream);
    if (!items) {
        return std::this_thread::get_id() == capturer ? outside_capture() : work();
    }
    items->push_back({std::move(work), nullptr, nullptr});
    return 0;
}

// For the fake libraries: work with a copy of what it is given.
API int fake_ask(void* stream, void (*work)(const void*), const void* given, size_t bytes)
{
    std::vector<char> copy((const char*)given, (const char*)given + bytes);
    return ask(stream, [=] {
        work(copy.data());
        return 0;
    });
}

#ifdef FAKE_KERNELS
#include "emulate.h"

extern const emulate::Kernel all_kernels[];
extern "C" const char* jempp_emulate(const emulate::Kernel*, const unsigned*, const unsigned*, unsigned, int, uint64_t,
                                     void**);

static const emulate::Kernel* find(const char* name)
{
    for (const emulate::Kernel* k = all_kernels; k->name; k++) {
        if (strcmp(k->name, name) == 0) {
            return k;
        }
    }
    return nullptr;
}

API int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, void* stream, void** args, void**)
{
    const auto* kernel = (const emulate::Kernel*)function;
    // As the driver does: the arguments' values are taken now.
    std::vector<std::vector<char>> values;
    for (uint32_t i = 0; i < kernel->arguments; i++) {
        values.emplace_back((char*)args[i], (char*)args[i] + kernel->sizes[i]);
    }
    return ask(stream, [=]() mutable {
        std::vector<void*> pointers;
        for (auto& value : values) {
            pointers.push_back(value.data());
        }
        const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
        const char* wrong = jempp_emulate(kernel, grid, block, shared, 0, 0, pointers.data());
        if (wrong) {
            fprintf(stderr, "fake driver: %s\n", wrong);
        }
        return wrong ? 719 : 0;
    });
}
#else
static const void* find(const char*) { return nullptr; }
API int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**,
                       void**)
{
    return 500;
}
#endif

API int cuStreamBeginCapture_v2(void* stream, int)
{
    capturing = true;
    spoiled = false;
    capturer = std::this_thread::get_id();
    captured = {};
    captured.streams.push_back({stream, {}});
    return 0;
}
API int cuStreamEndCapture(void*, void** graph)
{
    capturing = false;
    *graph = nullptr;
    if (spoiled) {
        return CAPTURE_SPOILED;
    }
    // Each other stream must end with an event that the first one waits for.
    for (const auto& s : captured.streams) {
        bool joined = s.first == captured.streams[0].first;
        for (const Item& item : captured.streams[0].second) {
            joined = joined || (!s.second.empty() && item.awaited && item.awaited == s.second.back().recorded);
        }
        if (!joined) {
            return UNJOINED;
        }
    }
    *graph = new Graph(captured);
    captured = {};
    return 0;
}
API int cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long)
{
    *exec = new Graph(*(Graph*)graph);
    return 0;
}
API int cuGraphLaunch(void* exec, void*)
{
    return ((const Graph*)exec)->replay();
}
API int cuGraphExecDestroy(void* exec)
{
    delete (Graph*)exec;
    return 0;
}
API int cuGraphDestroy(void* graph)
{
    delete (Graph*)graph;
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
    *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : code == 900 ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" : code == 901 ? "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" : nullptr;
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
API int cuCtxSynchronize() { return outside_capture(); }
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
API int cuStreamSynchronize(void*) { return outside_capture(); }
static std::mutex memory_lock;
static std::map<void*, size_t> taken;
static size_t in_use, most_in_use;

static size_t all_memory()
{
    static const size_t bytes = getenv("FAKE_MEMORY") ? strtoull(getenv("FAKE_MEMORY"), nullptr, 10) : size_t(7) << 30;
    return bytes;
}

API int cuMemAlloc_v2(void** memory, size_t bytes)
{
    std::lock_guard<std::mutex> mine(memory_lock);
    if (bytes > all_memory() - in_use) {
        return 2;
    }
    // As the driver does, and filled with something that is not zero.
    *memory = bytes && !capturing ? aligned_alloc(256, (bytes + 255) / 256 * 256) : nullptr;
    if (!*memory) {
        return 1;
    }
    memset(*memory, 0xa5, bytes);
    taken[*memory] = bytes;
    in_use += bytes;
    most_in_use = std::max(most_in_use, in_use);
    return 0;
}
API int cuMemAllocAsync(void** memory, size_t bytes, void*) { return cuMemAlloc_v2(memory, bytes); }
API int cuMemFree_v2(void* memory)
{
    std::lock_guard<std::mutex> mine(memory_lock);
    in_use -= taken[memory];
    taken.erase(memory);
    free(memory);
    return 0;
}
API int cuMemFreeAsync(void* memory, void*)
{
    const int wrong = outside_capture();
    return wrong ? wrong : cuMemFree_v2(memory);
}
API int cuMemGetInfo_v2(size_t* free, size_t* total)
{
    std::lock_guard<std::mutex> mine(memory_lock);
    *free = all_memory() - in_use;
    *total = size_t(8) << 30;
    return 0;
}
// The one pool has all memory.
API int cuDeviceGetDefaultMemPool(void** pool, int)
{
    *pool = &taken;
    return 0;
}
API int cuMemPoolGetAttribute(void*, int attribute, uint64_t* value)
{
    std::lock_guard<std::mutex> mine(memory_lock);
    *value = attribute == 8 ? most_in_use : in_use;
    return 0;
}
API int cuMemPoolSetAttribute(void*, int attribute, const uint64_t* value)
{
    std::lock_guard<std::mutex> mine(memory_lock);
    // As the driver does: the high mark can only be reset.
    if (attribute == 8 && *value == 0) {
        most_in_use = in_use;
        return 0;
    }
    return attribute == 4 ? 0 : 1;
}
API int cuMemHostAlloc(void** memory, size_t bytes, unsigned)
{
    *memory = capturing ? nullptr : malloc(bytes);
    return *memory ? 0 : 1;
}
API int cuMemFreeHost(void* memory)
{
    const int wrong = not_by_capturer();
    if (!wrong) {
        free(memory);
    }
    return wrong;
}

// Events tell this machine's time and, on top of it, the time that fake libraries say their work takes.
using Clock = std::chrono::steady_clock;
static Clock::duration spent;
API void fake_spend(double seconds)
{
    spent += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}
API int cuEventCreate(void** event, unsigned)
{
    *event = new Clock::time_point();
    return 0;
}
API int cuEventRecord(void* event, void* stream)
{
    if (capturing) {
        auto* items = captured.of(stream);
        if (!items) {
            return outside_capture();
        }
        items->push_back({nullptr, event, nullptr});
        return 0;
    }
    *(Clock::time_point*)event = Clock::now() + spent;
    return 0;
}
API int cuStreamWaitEvent(void* stream, void* event, unsigned)
{
    if (!capturing) {
        return 0;
    }
    // Only events of the capture can be waited for in it; who waits for one becomes part of it.
    if (!captured.has_recorded(event)) {
        return outside_capture();
    }
    if (!captured.of(stream)) {
        captured.streams.push_back({stream, {}});
    }
    captured.of(stream)->push_back({nullptr, nullptr, event});
    return 0;
}
API int cuEventSynchronize(void*) { return not_by_capturer(); }
API int cuEventElapsedTime_v2(float* ms, void* start, void* end)
{
    *ms = std::chrono::duration<float, std::milli>(*(Clock::time_point*)end - *(Clock::time_point*)start).count();
    return 0;
}
API int cuEventDestroy_v2(void* event)
{
    delete (Clock::time_point*)event;
    return 0;
}
API int cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t bytes, void*)
{
    memcpy(to, from, bytes);
    return capturing ? 900 : 0;
}
API int cuMemcpyDtoHAsync_v2(void* to, const void* from, size_t bytes, void*)
{
    memcpy(to, from, bytes);
    return capturing ? 900 : 0;
}
// Copies to and from the host are waited for, which is not possible while work is recorded.
API int cuMemcpyDtoDAsync_v2(void* to, const void* from, size_t bytes, void* stream)
{
    return ask(stream, [=] {
        memmove(to, from, bytes);
        return 0;
    });
}
API int cuMemsetD8Async(void* to, unsigned char value, size_t bytes, void* stream)
{
    return ask(stream, [=] {
        memset(to, value, bytes);
        return 0;
    });
}
API int cuModuleLoadData(void** module, const void* image)
{
    *module = malloc(1);
    return memcmp(image, "\177ELF", 4) == 0 ? 0 : 200;
}
API int cuModuleUnload(void* module)
{
    const int wrong = not_by_capturer();
    if (!wrong) {
        free(module);
    }
    return wrong;
}
API int cuModuleGetFunction(void** function, void*, const char* name)
{
    *function = (void*)find(name);
    return *function ? 0 : 500;
}

#endif
