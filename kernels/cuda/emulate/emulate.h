// CUDA kernels on a CPU, for tests: each thread of a block is a fiber, one block runs at a time.
//
// What must hold:
// - A thread runs until it waits for others. Then the next one does, in the requested order: ascending, in
//   step; or descending or random, each warp as far as it can run. So a result that depends on the order of threads, as
//   it does where a barrier is missing, shows as a difference between orders.
// - Waiting that cannot end (a barrier that some threads never reach, a shuffle that lacks lanes) is an error, never a
//   hang. Stricter than a device: a thread that has ended counts as missing.
// - One launch at a time in the whole process: shared memory is static. The caller serialises.
//
// What it cannot show: races inside one warp between two waits that any order hides, wgmma, inline PTX, grid barriers.
// Misaligned packs are found by JEMPP_CHECK_ALIGNED. There are no atomics, because no kernel may use them.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>
#include <utility>

#define JEMPP_EMULATED 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

namespace emulate {
extern dim3 thread, block, block_size, grid_size;
extern unsigned char* dynamic_shared;
// The address of static shared memory, with `bytes` more reserved; it is filled with NaN when a block starts. Kernels
// therefore use JEMPP_SHARED: plain variables would keep the values of an earlier block.
extern unsigned char static_shared[];
size_t reserve(size_t bytes);

// Ends the launch with this message.
[[noreturn]] void fail(const char* format, ...);
// Waits for all threads of the block; returns how many of them came with a true value.
int barrier(bool value);
// Deposits a value of up to 8 bytes and waits for all lanes of the mask; then the values of all lanes are in the
// result, and which lanes gave a true one in `votes`. `what` names the operation: all lanes must perform the same one.
const uint64_t* exchange(unsigned mask, uint64_t value, const char* what);
int lane();

template <typename T> uint64_t pack(T v)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a shuffle moves up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    return bits;
}
template <typename T> T shuffle(unsigned mask, T v, int from, const char* what)
{
    const uint64_t* all = exchange(mask, pack(v), what);
    if (from < 0 || from > 31) {
        return v; // beyond the warp: a lane keeps its own
    }
    if (!(mask >> from & 1)) {
        fail("%s reads lane %d, which is not in its mask %08x", what, from, mask);
    }
    T out;
    memcpy(&out, &all[from], sizeof out);
    return out;
}
unsigned ballot(unsigned mask, bool value, const char* what);
inline void check_aligned(const void* p, size_t bytes)
{
    if (reinterpret_cast<uintptr_t>(p) % bytes != 0) {
        fail("an access of %zu bytes at an address that is no multiple of it", bytes);
    }
}

// A kernel as launches find it: its arguments come as an array of pointers to them, as with the driver's launch.
struct Kernel {
    const char* name;
    void (*call)(void** arguments);
    const uint32_t* sizes;
    uint32_t arguments;
};
template <auto K> struct Caller;
template <typename... A, void (*K)(A...)> struct Caller<K> {
    template <size_t... I> static void spread(void** a, std::integer_sequence<size_t, I...>)
    {
        K(*static_cast<A*>(a[I])...);
    }
    static void call(void** a) { spread(a, std::make_integer_sequence<size_t, sizeof...(A)>()); }
    static constexpr uint32_t sizes[sizeof...(A)] = {sizeof(A)...};
    static constexpr Kernel kernel(const char* name) { return {name, call, sizes, sizeof...(A)}; }
};
} // namespace emulate

#define threadIdx (emulate::thread)
#define blockIdx (emulate::block)
#define blockDim (emulate::block_size)
#define gridDim (emulate::grid_size)
#define JEMPP_CHECK_ALIGNED(pointer, bytes) emulate::check_aligned(pointer, bytes)
#define JEMPP_SHARED(type, name, sizes)                                                                                \
    using name##_array = type sizes;                                                                                   \
    static const size_t name##_at = emulate::reserve(sizeof(name##_array));                                            \
    name##_array& name = *reinterpret_cast<name##_array*>(emulate::static_shared + name##_at)
#define JEMPP_DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulate::dynamic_shared)

inline void __syncthreads() { emulate::barrier(false); }
inline int __syncthreads_or(int v) { return emulate::barrier(v != 0) > 0; }
inline int __syncthreads_and(int v) { return emulate::barrier(v == 0) == 0; }
inline int __syncthreads_count(int v) { return emulate::barrier(v != 0); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulate::exchange(mask, 0, "__syncwarp"); }
template <typename T> T __shfl_sync(unsigned mask, T v, int from)
{
    return emulate::shuffle(mask, v, from & 31, "__shfl_sync");
}
template <typename T> T __shfl_xor_sync(unsigned mask, T v, int bits)
{
    return emulate::shuffle(mask, v, emulate::lane() ^ bits, "__shfl_xor_sync");
}
template <typename T> T __shfl_down_sync(unsigned mask, T v, unsigned by)
{
    return emulate::shuffle(mask, v, emulate::lane() + int(by), "__shfl_down_sync");
}
template <typename T> T __shfl_up_sync(unsigned mask, T v, unsigned by)
{
    return emulate::shuffle(mask, v, emulate::lane() - int(by), "__shfl_up_sync");
}
inline unsigned __ballot_sync(unsigned mask, int v) { return emulate::ballot(mask, v != 0, "__ballot_sync"); }
inline int __any_sync(unsigned mask, int v) { return emulate::ballot(mask, v != 0, "__any_sync") != 0; }
inline int __all_sync(unsigned mask, int v) { return emulate::ballot(mask, v != 0, "__all_sync") == mask; }

// Single operations; the build forbids the compiler to fuse or reorder any.
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __int_as_float(int v)
{
    float f;
    memcpy(&f, &v, sizeof f);
    return f;
}
inline int __float_as_int(float v)
{
    int i;
    memcpy(&i, &v, sizeof i);
    return i;
}
