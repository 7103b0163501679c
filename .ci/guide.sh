#!/usr/bin/env bash
# Runs every command of the guide, chapter by chapter, each in its own folder, with the contents of a release archive.
#   .ci/guide.sh ARCHIVE_FOLDER
set -euo pipefail
prefix=$(realpath "$1")
JEMPP=$(realpath "$(dirname "$0")/..")
export JEMPP PATH="$prefix/bin:$PATH" PKG_CONFIG_PATH="$prefix/lib/pkgconfig" LD_LIBRARY_PATH="$prefix/lib"
for chapter in "$JEMPP"/docs/guide/*.md; do
    script=$(sed -n '/^```sh$/,/^```$/{/^```/d;p}' "$chapter")
    [ -n "$script" ] || continue
    work=$(mktemp -d)
    echo "-- $(basename "$chapter")"
    if ! (cd "$work" && bash -euo pipefail -c "$script") >"$work/log" 2>&1; then
        cat "$work/log"
        echo "$(basename "$chapter"): a command of the guide failed" >&2
        exit 1
    fi
    rm -rf "$work"
done
