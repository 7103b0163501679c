#!/usr/bin/env bash
# Builds the Python wheel and runs its tests and the numpy-only notebook in a fresh virtual environment, in which there is
# NumPy and the wheel alone. Without the network: JEMPP_WHEELS=FOLDER holds a wheel of NumPy.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if ! "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "skipped: $python is not Python 3.11 or newer with venv (PYTHON names another)"
    exit 0
fi
rm -rf target/ci-python && mkdir -p target/ci-python
wheel=$(JEMPP_GLIBC=${JEMPP_GLIBC:-2.99} packaging/python.sh target/ci-python)
env=$PWD/target/ci-python/env
"$python" -m venv "$env"
numpy=(numpy)
[ -z "${JEMPP_WHEELS:-}" ] || numpy=(--no-index --find-links "$JEMPP_WHEELS" numpy)
"$env/bin/pip" install --quiet --disable-pip-version-check "${numpy[@]}"
"$env/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-index "$wheel"
root=$PWD
# From another folder, with neither compiler nor checkout in reach.
cd target/ci-python
export PATH="$env/bin:/usr/bin:/bin"
unset PYTHONPATH JEMPP_LIBRARY JEMPP_CLI
"$env/bin/python" -m jempp
"$env/bin/python" -W error -m unittest discover -s "$root/jempp/python/tests"
"$env/bin/python" "$root/jempp/python/notebooks/run.py" "$root/jempp/python/notebooks/digits.ipynb"
