#!/usr/bin/env python3
"""Checks that the IR in pages parses and verifies: every ```mlir block is a module for moe-opt.

usage: check_examples.py PAGE...      (moe-opt is found on the PATH)
"""
import pathlib
import re
import subprocess
import sys


def main():
    count = failed = 0
    for page in map(pathlib.Path, sys.argv[1:]):
        text = page.read_text()
        for match in re.finditer(r"^```mlir\n(.*?)^```", text, re.S | re.M):
            count += 1
            run = subprocess.run(["moe-opt", "-"], input=match[1], capture_output=True, text=True)
            if run.returncode:
                failed += 1
                line = text.count("\n", 0, match.start()) + 1
                print(f"{page.name}:{line}: {run.stderr[:600]}")
    print(f"{count} examples, {failed} failed")
    return 1 if failed or not count else 0


sys.exit(main())
