#!/usr/bin/env bash
# The wheel beside the packages of others, which are large (PyTorch with its CUDA libraries is some 5 GB): the tests of
# jempp.torch and jempp.sklearn, the notebook that uses foolbox and pytorch-ood, and compare.py, whose output is in
# docs/measurements/python.md. Takes ten minutes or more.
#   jempp/python/peers/run.sh [VENV]      (default: target/peers; an environment that exists is used as it is)
set -euo pipefail
cd "$(dirname "$0")/../../.."
env=$(realpath -m "${1:-target/peers}")
wheel=$(JEMPP_GLIBC=${JEMPP_GLIBC:-2.99} packaging/python.sh)
if [ ! -x "$env/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$env"
    "$env/bin/pip" install --quiet -r jempp/python/peers/requirements.txt
    # Not in a registry of packages; this is the version that was measured.
    "$env/bin/pip" install --quiet "git+https://github.com/fra31/auto-attack@a39220048b3c9f2cca9a4d3a54604793c68eca7e"
fi
"$env/bin/pip" install --quiet --no-deps --force-reinstall "$wheel"
root=$PWD
cd "$(mktemp -d)"
"$env/bin/python" -m unittest discover -s "$root/jempp/python/tests" -p 'test_[ts][ok]*.py'
"$env/bin/python" "$root/jempp/python/notebooks/run.py" "$root/jempp/python/notebooks/judge.ipynb"
"$env/bin/python" -W ignore "$root/jempp/python/peers/compare.py" --folder "$root/target/peers-run"
