#!/bin/sh
# Installs NVIDIA's runtime compiler, which needs neither GPU nor driver, into a folder, and prints the value that
# JEMPP_CUDA_PATH must have. A second call with the same folder installs nothing.
#
# usage: JEMPP_CUDA_PATH=$(.ci/nvrtc.sh FOLDER)
#
# The versions are pinned: code from a newer compiler may not load on a driver for CUDA 13.0.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi

packages="nvidia-cuda-nvrtc==13.0.88 nvidia-cuda-runtime==13.0.96"
mkdir -p "$1"
folder=$(cd "$1" && pwd)
done="$folder/installed"

if [ "$(cat "$done" 2>/dev/null)" != "$packages" ]; then
    python3 -m venv "$folder" >&2
    # The list of packages is split into words on purpose.
    # shellcheck disable=SC2086
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check $packages >&2
    echo "$packages" >"$done"
fi
echo "$folder"
