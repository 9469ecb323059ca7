"""usage: run_mutants.py PROGRAM FOLDER [--seed N] [--count N] [--seconds N]

Runs the program Mutants on the legal small models of the list of kinds and on a layer in every form.
When it crashes, the mutant is kept and the run goes on behind it.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np

import layers as L
from kinds import KINDS
from kinds.base import value, write
from run_fuzzers import LARGE


def seeds(folder):
    for kind in KINDS:
        place = folder / "kinds" / kind.id
        if kind.code or kind.id in LARGE:
            continue
        place.mkdir(parents=True)
        kind.write(place)
        path = place / "model.onnx"
        if path.stat().st_size < 65536:
            shutil.copy(path, folder / f"{kind.id}.onnx")
    for family in L.FAMILIES:
        for router in L.routers_of(family):
            g = L.Graph()
            y = L.EMIT[family](g, L.random_layer(np.random.default_rng(1), kind=router), "x")
            write(folder, g.model([value("x", "n", 6)], [value(y, "n", 6)]), f"{family}-{router}.onnx")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=600, help="stop early after that time")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    seeds(args.folder)
    first, faults, stop = 0, 0, time.time() + args.seconds
    while first < args.count and time.time() < stop:
        words = [args.seed, args.count - first, max(1, int(stop - time.time())), first]
        run = subprocess.run([args.program, args.folder, *map(str, words)], capture_output=True, text=True,
                             errors="replace")
        print(run.stdout, end="", flush=True)
        if run.returncode == 0:
            break
        faults += 1
        if run.returncode == 1:  # internal errors, all listed
            break
        number = int((args.folder / "mutant.number").read_text())
        kept = args.folder / f"crash-{args.seed}-{number}.onnx"
        shutil.copy(args.folder / "mutant.bin", kept)
        stack = [l for l in run.stderr.splitlines() if re.search(r"Assertion|moec::|ERROR|runtime error", l)]
        print(f"mutant {number} of seed {args.seed} ends with {run.returncode}: {kept}", *stack[:6], sep="\n    ", flush=True)
        first = number + 1
    return 1 if faults else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
