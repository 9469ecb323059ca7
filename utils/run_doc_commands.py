#!/usr/bin/env python3
"""Runs the commands in the README and the pages of docs/, so that they stay true.

Every line of a ```sh block is run by bash, in order, from a scratch folder in which the project's
own files are visible and build/bin is on the PATH. A block whose language is anything else (console,
text) is not run. usage: run_doc_commands.py [--build FOLDER] [PAGE...]
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def blocks(page):
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.S | re.M)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("pages", nargs="*")
    args = parser.parse_args()
    pages = [pathlib.Path(p).resolve() for p in args.pages]
    pages = pages or [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    environment = dict(os.environ, PATH=f"{args.build.resolve() / 'bin'}:/usr/lib/llvm-22/bin:{os.environ['PATH']}")
    failed = ran = 0
    for page in pages:
        with tempfile.TemporaryDirectory() as scratch:
            for entry in ROOT.iterdir():
                if entry.name != ".git":
                    os.symlink(entry, pathlib.Path(scratch) / entry.name)
            for block in blocks(page):
                for line in re.sub(r"\\\n\s*", "", block).splitlines():
                    if not line.strip() or line.lstrip().startswith("#"):
                        continue
                    start = time.time()
                    run = subprocess.run(["bash", "-c", line], cwd=scratch, env=environment,
                                         capture_output=True, text=True, errors="replace")
                    ran += 1
                    print(f"{time.time() - start:6.1f} s  {page.name}: {line}", flush=True)
                    if run.returncode:
                        failed += 1
                        print(f"exit code {run.returncode}\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    print(f"{ran} commands, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
