#!/bin/sh
# Installs NVIDIA's runtime compiler, cuBLAS and cuDNN, which compile for a GPU that is not there, without a driver, into a
# folder (1.3 GB), and prints the value that JEMPP_CUDA_PATH must have. A second call with the same folder installs nothing.
#
# usage: JEMPP_CUDA_PATH=$(.ci/cuda.sh FOLDER)
#
# The versions are pinned: those that PyTorch 2.11 brings for CUDA 13.0. Code from a newer compiler may not load on a driver
# for CUDA 13.0, and each cuDNN has engines of its own.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi

packages="nvidia-cuda-nvrtc==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cublas==13.1.0.3 nvidia-cudnn-cu13==9.19.0.56"
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
