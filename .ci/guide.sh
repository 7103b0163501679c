#!/usr/bin/env bash
# Runs every command of the guide, chapter by chapter, each in its own folder, with the contents of a release archive.
#   .ci/guide.sh ARCHIVE_FOLDER
# The environment is that which docs/guide/setup.md tells the reader to set up, and nothing else: its `sh` block runs first.
set -euo pipefail
PREFIX=$(realpath "$1")
JEMPP=$(realpath "$(dirname "$0")/..")
block() { sed -n '/^```sh$/,/^```$/{/^```/d;p}' "$1"; }
prelude=$(block "$JEMPP/docs/guide/setup.md")
[ -n "$prelude" ] || { echo "docs/guide/setup.md: no commands that set up the environment" >&2; exit 1; }
for chapter in "$JEMPP"/docs/guide/*.md; do
    [ "$(basename "$chapter")" != setup.md ] || continue
    script=$(block "$chapter")
    [ -n "$script" ] || continue
    work=$(mktemp -d)
    echo "-- $(basename "$chapter")"
    if ! (cd "$work" && env -u PKG_CONFIG_PATH -u LD_LIBRARY_PATH JEMPP="$JEMPP" PREFIX="$PREFIX" PATH=/usr/local/bin:/usr/bin:/bin \
        bash -euo pipefail -c "$prelude"$'\n'"$script") >"$work/log" 2>&1; then
        cat "$work/log"
        echo "$(basename "$chapter"): a command of the guide failed" >&2
        exit 1
    fi
    rm -rf "$work"
done
