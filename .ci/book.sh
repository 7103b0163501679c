#!/usr/bin/env bash
# Builds the documentation as a site, target/book/index.html, and checks its links and those of all other Markdown
# files.
#
# The pinned version of mdBook is taken from target/tools or else built there, once, without optimisation and without
# its web server, which is the fastest to build.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.5.4
tools=$PWD/target/tools
mdbook=$tools/bin/mdbook
if [ "$("$mdbook" --version 2>/dev/null)" != "mdbook v$version" ]; then
    # It has its own lock file, compiler flags and target folder, so that nothing of the workspace is rebuilt because of
    # it.
    (cd / && env -u RUSTFLAGS cargo install mdbook --version "$version" --locked --no-default-features --features search \
        --debug --root "$tools" --target-dir "$tools/target" --quiet)
    rm -rf "$tools/target"
fi
rm -rf target/book
"$mdbook" build
python3 .ci/links.py target/book
python3 .ci/links.py
