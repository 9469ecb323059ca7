#!/bin/bash
# usage: check_refused.sh CODE LINES MODEL    moec compile MODEL must end with the exit code CODE and
# exactly LINES lines on stderr (which are printed), and leave no file behind.
code=$1 lines=$2 model=$3
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
moec compile "$model" -o "$out/m.so" >"$out/stdout" 2>"$out/stderr"
got=$?
cat "$out/stderr"
[ $got = "$code" ] || { echo "exit code $got instead of $code"; exit 1; }
[ "$(wc -l <"$out/stderr")" = "$lines" ] || { echo "not $lines lines"; exit 1; }
[ ! -s "$out/stdout" ] || { echo "wrote to stdout"; exit 1; }
[ "$(ls -A "$out" | tr '\n' ' ')" = "stderr stdout " ] || { echo "left files:"; ls -A "$out"; exit 1; }
