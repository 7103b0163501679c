// The scheduler behind emulate.h.
//
// A fiber is made once, with ucontext, and then runs one thread after another; switching is setjmp and longjmp, which
// need no system calls. After a failed launch, its fibers are created anew.
#undef _FORTIFY_SOURCE // its longjmp refuses to change stacks
#include "emulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

namespace emulate {
dim3 thread, block, block_size, grid_size;
unsigned char* dynamic_shared;
alignas(16) unsigned char static_shared[1 << 20];

namespace {
size_t reserved;
constexpr size_t kStack = 64 * 1024;
constexpr unsigned kMost = 1024;

enum class State : unsigned char { Ready, AtBarrier, InWarp, Ended };

struct Fiber {
    jmp_buf place;
    bool made;
    dim3 index;
    unsigned number;
};

// What a warp exchanges. Two sets of values, used in turn: a lane can be one exchange ahead of another, never two.
struct Warp {
    uint64_t values[2][32];
    unsigned arrived;
    unsigned mask;
    unsigned round;
    const char* what;
};

Fiber fibers[kMost];
// Apart from the fibers, since barriers go through all of them.
State states[kMost];
Warp warps[kMost / 32];
unsigned char* stacks;
jmp_buf scheduler;
Fiber* running;
unsigned threads;
unsigned at_barrier, barrier_true, barrier_result;
const Kernel* kernel;
void** arguments;
char message[512];
bool failed;

// Yields, and returns at the fiber's next turn.
void wait(State state)
{
    Fiber& me = *running;
    states[me.number] = state;
    if (_setjmp(me.place) == 0) {
        _longjmp(scheduler, 1);
    }
}

void live()
{
    for (;;) {
        kernel->call(arguments);
        wait(State::Ended);
    }
}

// Lets a fiber run until it waits.
void resume(Fiber& f)
{
    running = &f;
    thread = f.index;
    if (_setjmp(scheduler) != 0) {
        return;
    }
    if (f.made) {
        _longjmp(f.place, 1);
    }
    f.made = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks + (&f - fibers) * kStack;
    context.uc_stack.ss_size = kStack;
    context.uc_link = nullptr;
    makecontext(&context, live, 0);
    setcontext(&context);
}

uint64_t next_random(uint64_t& state)
{
    state += 0x9e3779b97f4a7c15;
    uint64_t z = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

// Writes 0..n in the requested order: 0 ascending, 1 descending, else random.
void order_of(unsigned* out, unsigned n, int order, uint64_t& random)
{
    for (unsigned i = 0; i < n; i++) {
        out[i] = order == 1 ? n - 1 - i : i;
    }
    for (unsigned i = n; order > 1 && i > 1; i--) {
        const unsigned j = unsigned(next_random(random) % i), swap = out[i - 1];
        out[i - 1] = out[j];
        out[j] = swap;
    }
}

void prepare(unsigned t)
{
    Fiber& f = fibers[t];
    states[t] = State::Ready;
    f.number = t;
    f.index.x = t % block_size.x;
    f.index.y = t / block_size.x % block_size.y;
    f.index.z = t / block_size.x / block_size.y;
}

void deadlock()
{
    unsigned count[4] = {0, 0, 0, 0};
    for (unsigned t = 0; t < threads; t++) {
        count[int(states[t])]++;
    }
    const char* what = "";
    for (unsigned w = 0; w < (threads + 31) / 32; w++) {
        if (warps[w].arrived) {
            what = warps[w].what;
        }
    }
    snprintf(message, sizeof message,
             "%s, block (%u, %u, %u): a wait that cannot end: %u threads at a barrier, %u in %s, %u have ended",
             kernel->name, block.x, block.y, block.z, count[int(State::AtBarrier)], count[int(State::InWarp)],
             *what ? what : "a warp's exchange", count[int(State::Ended)]);
    failed = true;
}

// Lets every thread that can run do so until it waits, once; whether there was one.
bool run_in_step(unsigned& ended)
{
    bool moved = false;
    for (unsigned t = 0; t < threads && !failed; t++) {
        if (states[t] == State::Ready) {
            moved = true;
            resume(fibers[t]);
            ended += states[t] == State::Ended;
        }
    }
    return moved;
}

// Lets one warp after another run as far as it can run without the others, as on a device: so a warp may be far ahead.
bool run_by_warps(int order, uint64_t& random, unsigned& ended)
{
    unsigned warp_turn[kMost / 32], lane_turn[32];
    bool moved = false;
    const unsigned count = (threads + 31) / 32;
    order_of(warp_turn, count, order, random);
    for (unsigned w = 0; w < count; w++) {
        const unsigned first = warp_turn[w] * 32, lanes = threads - first < 32 ? threads - first : 32;
        for (bool again = true; again && !failed;) {
            again = false;
            order_of(lane_turn, lanes, order, random);
            for (unsigned i = 0; i < lanes && !failed; i++) {
                const unsigned t = first + lane_turn[i];
                if (states[t] == State::Ready) {
                    again = moved = true;
                    resume(fibers[t]);
                    ended += states[t] == State::Ended;
                }
            }
        }
    }
    return moved;
}

void run_block(int order, uint64_t& random, unsigned shared_bytes)
{
    // The contents of shared memory at a block's start are undefined: NaN reveals reads of them.
    memset(dynamic_shared, 0xff, shared_bytes);
    memset(static_shared, 0xff, reserved);
    memset(warps, 0, sizeof warps);
    at_barrier = barrier_true = 0;
    for (unsigned t = 0; t < threads; t++) {
        prepare(t);
    }
    unsigned ended = 0;
    while (ended < threads && !failed) {
        const bool moved = order == 0 ? run_in_step(ended) : run_by_warps(order, random, ended);
        if (!moved && ended < threads && !failed) {
            deadlock();
        }
    }
}
} // namespace

void fail(const char* format, ...)
{
    char text[400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    snprintf(message, sizeof message, "%s, block (%u, %u, %u), thread (%u, %u, %u): %s", kernel->name, block.x, block.y,
             block.z, thread.x, thread.y, thread.z, text);
    failed = true;
    // The fiber is left where it is; nothing on its stack needs a destructor.
    _longjmp(scheduler, 1);
}

size_t reserve(size_t bytes)
{
    const size_t at = reserved;
    if (at + bytes > sizeof static_shared) {
        fail("there is no room for %zu bytes of static shared memory", bytes);
    }
    reserved += (bytes + 15) / 16 * 16;
    // The block that requests memory first has started already.
    memset(static_shared + at, 0xff, bytes);
    return at;
}

int lane() { return int(running->number % 32); }

int barrier(bool value)
{
    at_barrier++;
    barrier_true += value;
    if (at_barrier < threads) {
        wait(State::AtBarrier);
    } else {
        barrier_result = barrier_true;
        at_barrier = barrier_true = 0;
        for (unsigned t = 0; t < threads; t++) {
            if (states[t] == State::AtBarrier) {
                states[t] = State::Ready;
            }
        }
    }
    return int(barrier_result);
}

const uint64_t* exchange(unsigned mask, uint64_t value, const char* what)
{
    Warp& w = warps[running->number / 32];
    const unsigned me = 1u << (running->number % 32);
    if (!(mask & me)) {
        fail("%s by a lane that its mask %08x leaves out", what, mask);
    }
    if (w.arrived && (w.mask != mask || strcmp(w.what, what) != 0)) {
        fail("%s with mask %08x while other lanes wait in %s with mask %08x", what, mask, w.what, w.mask);
    }
    w.mask = mask;
    w.what = what;
    const unsigned round = w.round;
    w.values[round % 2][running->number % 32] = value;
    w.arrived |= me;
    if (w.arrived != mask) {
        wait(State::InWarp);
    } else {
        w.arrived = 0;
        w.round++;
        const unsigned first = running->number / 32 * 32;
        for (unsigned t = first; t < first + 32 && t < threads; t++) {
            if (states[t] == State::InWarp && (mask >> (t - first) & 1)) {
                states[t] = State::Ready;
            }
        }
    }
    return w.values[round % 2];
}

unsigned ballot(unsigned mask, bool value, const char* what)
{
    const uint64_t* all = exchange(mask, value, what);
    unsigned votes = 0;
    for (int i = 0; i < 32; i++) {
        votes |= (mask >> i & 1) && all[i] ? 1u << i : 0u;
    }
    return votes;
}

extern "C" {
// Runs a kernel; null, or what went wrong. grid and block are x, y, z. order: 0 ascending, thread by thread; 1
// descending, warp by warp; 2 random by `seed`, warp by warp.
const char* jempp_emulate(const Kernel* k, const unsigned* grid, const unsigned* size, unsigned shared_bytes, int order,
                          uint64_t seed, void** args)
{
    kernel = k;
    arguments = args;
    failed = false;
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {size[0], size[1], size[2]};
    block = dim3{0, 0, 0};
    const uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
    const uint64_t all = uint64_t(size[0]) * size[1] * size[2];
    if (all == 0 || all > kMost || blocks == 0 || blocks > 1u << 20 || grid[1] > 65535 || grid[2] > 65535) {
        return "no such grid or block";
    }
    threads = unsigned(all);
    if (!stacks) {
        void* memory = mmap(nullptr, kMost * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            return "no memory for stacks";
        }
        stacks = static_cast<unsigned char*>(memory);
    }
    dynamic_shared = static_cast<unsigned char*>(aligned_alloc(16, (shared_bytes + 31) / 16 * 16));
    unsigned* turn = static_cast<unsigned*>(malloc(blocks * sizeof(unsigned)));
    order_of(turn, unsigned(blocks), order, seed);
    for (uint64_t i = 0; i < blocks && !failed; i++) {
        block = {turn[i] % grid[0], turn[i] / grid[0] % grid[1], turn[i] / grid[0] / grid[1]};
        run_block(order, seed, shared_bytes);
    }
    for (unsigned t = 0; failed && t < kMost; t++) {
        fibers[t].made = false;
    }
    free(turn);
    free(dynamic_shared);
    return failed ? message : nullptr;
}
}
} // namespace emulate
