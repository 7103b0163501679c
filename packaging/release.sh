#!/usr/bin/env bash
# Builds a release archive: program, libraries, header, licences, completions, man pages.
#   packaging/release.sh [FOLDER]      (default: target/release-archive)
# Writes FOLDER/jempp-VERSION-TARGET/, the same as a .tar.gz, and its SHA-256. Paths inside the archive are relative, so
# it may be unpacked anywhere.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/release-archive}
version=$(cargo pkgid -p jempp-cli | sed 's/.*[#@]//')
target=$(rustc -vV | sed -n 's/^host: //p')
name=jempp-$version-$target
dest=$out/$name
built=${CARGO_TARGET_DIR:-target}/release

cargo build --release --locked -p jempp-cli -p jempp-capi
rm -rf "$dest"
mkdir -p "$dest"/{bin,include,lib/pkgconfig,lib/cmake/jempp,share/man/man1,share/doc/jempp/examples} \
    "$dest"/share/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}

install -m 755 "$built/jempp-cli" "$dest/bin/"
strip "$dest/bin/jempp-cli"
install -m 755 "$built/libjempp_capi.so" "$dest/lib/libjempp.so.1.1.0"
strip "$dest/lib/libjempp.so.1.1.0"
ln -s libjempp.so.1.1.0 "$dest/lib/libjempp.so.1"
ln -s libjempp.so.1 "$dest/lib/libjempp.so"
install -m 644 "$built/libjempp_capi.a" "$dest/lib/libjempp.a"
strip --strip-debug "$dest/lib/libjempp.a"
install -m 644 jempp/capi/include/jempp.h "$dest/include/"
sed "s/@VERSION@/$version/" jempp/capi/jempp.pc.in >"$dest/lib/pkgconfig/jempp.pc"
install -m 644 jempp/capi/cmake/jempp-config.cmake "$dest/lib/cmake/jempp/"

"$dest/bin/jempp-cli" man "$dest/share/man/man1"
"$dest/bin/jempp-cli" completions bash >"$dest/share/bash-completion/completions/jempp-cli"
"$dest/bin/jempp-cli" completions zsh >"$dest/share/zsh/site-functions/_jempp-cli"
"$dest/bin/jempp-cli" completions fish >"$dest/share/fish/vendor_completions.d/jempp-cli.fish"

doc=$dest/share/doc/jempp
install -m 644 README.md LICENSE-MIT LICENSE-APACHE "$doc/"
install -m 644 jempp/capi/examples/* "$doc/examples/"
# The crates that are linked in, and their licences.
cargo tree --locked -p jempp-cli -p jempp-capi -e normal --prefix none --format '{p}  {l}' \
    | sed -E 's/ \(\*\)$//; s/ \(proc-macro\)//; s# \(/[^)]*\)##' | sort -u >"$doc/DEPENDENCIES.txt"

tar -C "$out" -czf "$out/$name.tar.gz" "$name"
(cd "$out" && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
