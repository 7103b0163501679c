// Keeps the device busy for a while, so that the host can submit what comes next before the device gets to it.
//
// What must hold: each round needs the one before, and several cannot be computed as one; the result is written, so that
// none is left out.
//
// Launch: one block of one thread.
#include "common.cuh"

extern "C" __global__ void delay(int rounds, unsigned* last)
{
    unsigned x = *last | 1u;
    for (int i = 0; i < rounds; i++) {
        x ^= x >> 15;
        x *= 0x2c1b3c6du;
    }
    *last = x;
}
