#!/usr/bin/env python3
"""Checks that each room includes only its own headers and those of rooms it may use.

A room is a folder of lib/ with a CMakeLists.txt; what it may use stands there, after USES.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = {".h", ".cpp", ".td", ".inc", ".def"}


def rooms():
    """Folder below lib/ -> the names after USES."""
    found = {}
    for file in sorted((ROOT / "lib").rglob("CMakeLists.txt")):
        text = re.sub(r"#.*", "", file.read_text())
        match = re.search(r"moec_add_room\((\w+)(.*?)\)", text, re.S)
        if match:
            uses = re.search(r"USES((?:\s+\w+)*?)\s*(?:LIBS|DEPENDS|$)", match[2] + " ", re.S)
            found[file.parent.relative_to(ROOT / "lib").as_posix()] = uses[1].split() if uses else []
    return found


def main():
    table = rooms()
    by_name = {folder.replace("/", ""): folder for folder in table}
    closure = {}

    def reach(folder):
        if folder not in closure:
            closure[folder] = {folder}
            for name in table[folder]:
                closure[folder] |= reach(by_name[name])
        return closure[folder]

    faults = []
    for folder in table:
        allowed = reach(folder)
        for base in (ROOT / "lib" / folder, ROOT / "include" / "moec" / folder):
            for file in sorted(base.rglob("*")) if base.is_dir() else []:
                inner = file.parent.relative_to(base.parent.parent if "/" in folder else base.parent).as_posix()
                if file.suffix not in SOURCES or (inner != folder and inner in table):
                    continue
                for header in re.findall(r'include\s+"moec/([^"]+)/[^/"]+"', file.read_text()):
                    if header not in allowed:
                        faults.append(f"{file.relative_to(ROOT)}: room {folder} may not use {header}")
    runtime = ROOT / "runtime"
    for file in sorted(runtime.rglob("*.[ch]")) + sorted(runtime.rglob("*.hpp")):
        for header in re.findall(r'#include\s+["<]((?:moec|mlir|llvm|Halide|onnx|google)[/.][^">]+)',
                                 file.read_text()):
            faults.append(f"{file.relative_to(ROOT)}: the runtime may not use {header}")
    print("\n".join(faults) or f"{len(table)} rooms keep to their walls")
    return 1 if faults else 0


sys.exit(main())
