#!/usr/bin/env bash
# Threads on one model, and on one trainer, through the C interface, under ThreadSanitizer: no data race may be reported.
# Builds everything once more (minutes), so it is run by hand: .ci/tsan.sh [CALLS A THREAD]
#
# helgrind cannot do this: it knows the locks of pthreads only, and Rust's are the kernel's futexes. The suppressions say what
# an uninstrumented standard library hides. RUSTC_BOOTSTRAP lets a stable compiler take the flag.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
    cargo build --release -p jempp-capi --lib --target "$target" --target-dir target/tsan \
    --config 'profile.release.debug="line-tables-only"'
runtime=$(echo "$(rustc --print sysroot)/lib/rustlib/$target"/lib/librustc-*_rt.tsan.a)
program=target/tsan/threads
cc -std=c99 -g -O1 -fsanitize=thread -Ijempp/capi/include -c jempp/capi/tests/c/threads.c -o "$program.o"
cc "$program.o" "target/tsan/$target/release/libjempp_capi.a" -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive \
    -lstdc++ -lgcc_s -lm -lpthread -ldl -lrt -no-pie -o "$program"
cargo build --release -p jempp-cli
model=$(mktemp -d)/model
target/release/jempp-cli train -q --out "$model" train.epochs=1
# Addresses that are laid out at random may lie where the sanitizer keeps its shadow.
for pool in 1 2; do
    TSAN_OPTIONS="exitcode=66 suppressions=$PWD/.ci/tsan.suppressions" setarch -R "$program" "$model" 8 "${1:-200}" "$pool"
done
rm -rf "$(dirname "$model")"
