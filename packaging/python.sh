#!/usr/bin/env bash
# Builds the Python wheel: package, libjempp and jempp-cli, for any CPython from 3.11 on.
#   packaging/python.sh [FOLDER]      (default: target/wheels)
# Prints the wheel's path. Its tag names the lowest glibc that has all symbols which the binaries need, at most 2.35
# (JEMPP_GLIBC=2.N allows another). A machine with an older glibc gives a wheel for more systems.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/wheels}
python=${PYTHON:-python3}
cargo build --release --locked -p jempp-cli -p jempp-capi >&2
wheel=$("$python" jempp/python/wheel.py "$out")
needed=$(sed -E 's/.*manylinux_2_([0-9]+)_.*/\1/' <<<"$wheel")
allowed=${JEMPP_GLIBC:-2.35}
if [ "$needed" -gt "${allowed#2.}" ]; then
    echo "$wheel needs glibc 2.$needed; $allowed is the highest allowed (JEMPP_GLIBC)" >&2
    exit 1
fi
echo "$wheel"
