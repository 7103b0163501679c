#!/usr/bin/env bash
# Walks through the first hour of a new user in a fresh folder, with a search path on which jempp-cli is not: the README's
# commands, and every command that the program prints to go on with, on the built-in digits and on 200 photographs of 4 classes.
#   .ci/newcomer.sh PROGRAM
set -euo pipefail
program=$(realpath "$1")
here=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export PATH=/usr/local/bin:/usr/bin:/bin JEMPP_CACHE_DIR="$work/cache" NO_COLOR=1
say() { printf -- '-- %s\n' "$*"; }
fail() { echo "newcomer: $*" >&2; exit 1; }

# The commands below `Next:`, without the words before them.
next() { sed -n '/^Next:$/,$p' "$1" | sed -n 's/^  [a-z][a-z ]*[a-z]  \+//p'; }
follow() {
    local line n=0
    next "$1" >steps
    [ -s steps ] || fail "$1 names no next steps"
    while read -r line; do
        say "$line"
        # The full evaluation attacks hundreds of images: here a few.
        case $line in
            *"eval all"*) line="$line -n 40 --attack-n 4" ;;
            *"train --resume"*) line="$line --max-time 0.5s" ;;
        esac
        timeout 60 bash -euo pipefail -c "$line" >log 2>&1 </dev/null || { cat log; fail "a printed command failed: $line"; }
        n=$((n + 1))
    done <steps
    [ "$n" -ge 4 ] || fail "$1: only $n next steps"
}

say "the README's first command, with fewer epochs"
grep -q -- '^cargo run --release --bin jempp-cli -- train ' "$here/README.md" || fail "README.md: the first command has changed"
"$program" train train.epochs=4 >out 2>err || { cat err; fail train; }
grep -q 'test accuracy' out || fail "no accuracy"
follow out
[ -s runs/train-001/report.html ] && [ -s samples-001.png ] || fail "the next steps have left no files"

say "the README's commands on that run"
# Those of the section `What it does` that need nothing but this run; jempp-cli stands for the program there.
mkdir bin && ln -s "$program" bin/jempp-cli
sed -n '/^## What it does$/,/^## /p' "$here/README.md" | sed -n 's/ \{2,\}#.*//; /^jempp-cli .*train-001/p; /^jempp-cli train --dry-run/p; /^jempp-cli train --print-config/p' |
    grep -v -e 'eval all' -e images.npz -e both.html >commands || fail "README.md: no commands"
[ "$(wc -l <commands)" -ge 4 ] || fail "README.md: only $(wc -l <commands) commands"
while read -r line; do
    say "$line"
    PATH="$work/bin:$PATH" bash -euo pipefail -c "$line" >log 2>&1 </dev/null || { cat log; fail "README.md: $line"; }
done <commands

say "an option that is a key"
"$program" train --lr 0.05 2>err && fail "an unknown option was accepted"
grep -q 'train.lr=0.05' err || { cat err; fail "no hint"; }

say "200 photographs of 4 classes"
python3 "$here/.ci/photographs.py" photos
"$program" train data.dataset=photos preset=jempp model.depth=10 model.widen_factor=1 sampler.outer_steps=2 \
    sampler.buffer_size=200 data.valid_size=30 train.batch_size=20 train.warmup_iters=5 train.epochs=2 --max-time 20s >out 2>err || { cat err; fail "photographs"; }
follow out
run=$(sed -n 's/^run folder *//p' out)
grep -q '<li>harbour</li>' "$run/report.html" || fail "the classes' names are not on the grid"
[ -e "$run/ckpt/best" ] || fail "no best checkpoint"

say "a run that is stopped names the command that goes on"
"$program" train --out stopped train.epochs=100000 train.sample_every=0 2>err >out &
pid=$!
for _ in $(seq 200); do [ -s stopped/metrics.jsonl ] && break; sleep 0.1; done
sleep 0.3
kill -INT "$pid"
code=0; wait "$pid" || code=$?
[ "$code" = 130 ] || { cat err; fail "exit code $code, not 130"; }
line=$(tail -1 err)
say "$line"
case $line in *"train --resume stopped") ;; *) cat err; fail "the last line is no command" ;; esac
bash -euo pipefail -c "$line --max-time 0.5s" >out 2>err </dev/null || { cat err; fail "resume"; }
follow out
say "done"
