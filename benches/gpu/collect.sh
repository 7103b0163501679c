#!/usr/bin/env bash
# Measures all that there is time for on a machine with a GPU, and leaves at most five files in $OUT:
#   gpu.jsonl      every result, one JSON object a line
#   summary.md     one page: numbers, ratios to PyTorch, what failed, what is missing
#   log.txt        what every stage printed
#   machine.txt    driver, libraries, versions
#   cache.tar.gz   compiled kernels and measured choices
#
# usage: OUT=FOLDER benches/gpu/collect.sh GPU_CHECK [SECONDS] [OPTION]...
#
# GPU_CHECK is the program, SECONDS (540) the time for everything, the OPTIONs are gpu-check's: --only STAGE, --sanitizer.
# What lies in $OUT, or in $FROM, from an earlier run of the same program is taken over: only what is missing or has
# failed is run. Nothing but bash, coreutils, tar and python3 with PyTorch is needed. The exit code is 0 unless the
# program cannot be started; whether all is well is said by summary.md.
set -uo pipefail
started=$(date +%s)
[ $# -ge 1 ] || { sed -n '2,15p' "$0"; exit 2; }
check=$1
shift
seconds=540
case ${1:-} in [0-9]*) seconds=$1; shift ;; esac
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-gpu-results}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# One file in $OUT stands for the hundreds of the cache.
work=${TMPDIR:-/tmp}/jempp-gpu-check
export JEMPP_CACHE_DIR=$work/cache
mkdir -p "$JEMPP_CACHE_DIR"
from=${FROM:-$out}
if [ "$from" != "$out" ] && [ ! -e "$out/gpu.jsonl" ] && [ -e "$from/gpu.jsonl" ]; then
    cp "$from/gpu.jsonl" "$out/gpu.jsonl"
fi
if [ -e "$from/cache.tar.gz" ]; then
    timeout -k 5 20 tar -xzf "$from/cache.tar.gz" -C "$work" || echo "the cache could not be read; it is made anew"
fi

# The environment of the python3 that has PyTorch has cuDNN too, wherever a link to it lies.
python=${PYTHON:-python3}
if [ -z "${VIRTUAL_ENV:-}" ]; then
    VIRTUAL_ENV=$(timeout -k 5 20 "$python" -c 'import sys; print(sys.prefix)' 2>/dev/null || true)
    export VIRTUAL_ENV
fi

if ! timeout -k 5 20 "$check" --needs >"$out/machine.txt" 2>&1; then
    cat "$out/machine.txt"
    echo "$check does not run here" >&2
    exit 1
fi
{
    uname -srm
    timeout -k 5 10 getconf GNU_LIBC_VERSION
    timeout -k 5 20 nvidia-smi
    timeout -k 5 20 nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,power.limit --format=csv
    timeout -k 5 10 ldconfig -p | grep -E 'libcuda|libcudnn|libcublas|libnvrtc'
    timeout -k 5 60 "$python" -c 'import sys, torch; print(sys.version, torch.__version__, torch.backends.cudnn.version())'
} >>"$out/machine.txt" 2>&1

# What is kept back is for the summary, the cache, and a stage that ends slowly.
left=$((seconds - ($(date +%s) - started) - 20))
timeout -k 5 $((left + 8)) "$check" --collect --budget "$left" --python "$python" --peers "$here/../peers" \
    --jsonl "$out/gpu.jsonl" "$@" >>"$out/log.txt" 2>&1
echo "gpu-check ended with $?" >>"$out/log.txt"

timeout -k 5 10 "$check" --summary "$out/gpu.jsonl" "$@" >"$out/summary.md" 2>>"$out/log.txt"
timeout -k 5 10 tar -czf "$out/cache.tar.gz" -C "$work" cache 2>>"$out/log.txt"
cat "$out/summary.md"
echo "$(($(date +%s) - started)) s; results in $out"
exit 0
