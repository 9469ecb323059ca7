#!/bin/bash
# usage: check_new_pass.sh ROOT BUILD SCRATCH    runs utils/new_pass.py in a copy of the project and
# checks that what it writes is declared, documented, and compiles.
set -euo pipefail
root=$1 build=$2 copy=$3 llvm=/usr/lib/llvm-22
rm -rf "$copy" && mkdir -p "$copy"
cp -r "$root"/{include,lib,test,utils,docs} "$copy"
for entry in README.md CONTRIBUTING.md CHANGELOG.md examples runtime scripts; do
  ln -s "$root/$entry" "$copy"
done
python="$root/.venv/bin/python"
cd "$copy"
$python utils/new_pass.py Routing drop-idle-experts "Remove experts that no token can choose"
$python utils/check_docs.py
$python utils/check_rooms.py
$llvm/bin/mlir-tblgen -gen-pass-decls -name Routing -I include -I $llvm/include \
  include/moec/Transforms/Routing/Passes.td -o include/moec/Transforms/Routing/Passes.h.inc
clang++-22 -std=c++20 -fsyntax-only -I include -I "$build/include" -isystem $llvm/include \
  lib/Transforms/Routing/DropIdleExperts.cpp
# A second time it refuses to overwrite anything.
if $python utils/new_pass.py Routing drop-idle-experts "again" 2>again.txt; then exit 1; fi
cat again.txt
