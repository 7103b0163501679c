#!/usr/bin/env bash
# Threads that share one model, and one trainer, through the C interface, under ThreadSanitizer: no data race may be
# reported.
# Rebuilds everything (minutes), so it is run by hand: .ci/tsan.sh [CALLS_PER_THREAD]
#
# helgrind cannot do this: it knows only the locks of pthreads, and Rust's are built on futexes. The suppressions say
# what the uninstrumented standard library hides. RUSTC_BOOTSTRAP makes a stable compiler accept the flag.
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
# With address randomisation, memory may land where the sanitizer keeps its shadow.
for pool in 1 2; do
    TSAN_OPTIONS="exitcode=66 suppressions=$PWD/.ci/tsan.suppressions" setarch -R "$program" "$model" 8 "${1:-200}" "$pool"
done
rm -rf "$(dirname "$model")"
