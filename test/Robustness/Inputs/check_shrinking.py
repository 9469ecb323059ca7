"""usage: check_shrinking.py FOLDER

98 of the list: a weight file becomes shorter while `moec compile` is at work, once between import and
packing (exit code 1, as if it had been so from the start) and once while it is packed (exit code 5).
Both must say so in one line that names the file, and leave nothing.
"""
import os
import pathlib
import subprocess
import sys
import time

from kinds.base import *

SIDE = 4096  # the weight takes 64 MiB


def prepare(folder, rows):
    (folder / "out").mkdir(parents=True)
    data = folder / "w.bin"
    data.touch()
    os.truncate(data, rows * SIDE * 4)
    save(folder, [node("MatMul", ["x", "w"], "y", "product")], [value("x", "n", rows)], [value("y", "n", SIDE)],
         [external("w", "w.bin", [rows, SIDE])])
    return data


def command(folder, *more):
    return ["moec", "compile", folder / "model.onnx", "-o", folder / "out/m.so", *more]


def judge(what, got, stderr, folder, code):
    lines = [l for l in stderr.splitlines() if l.startswith("moec: ")]
    left = sorted(p.name for p in (folder / "out").iterdir())
    good = got == code and len(lines) == 1 and "w.bin" in lines[0] and not left
    print(f"{'ok' if good else 'FAILED'} {what}: exit code {got}, left {left}, stderr {stderr!r}")
    return good


def between(folder):
    """The IR in between, as text: its weights are looked at when they are packed."""
    data = prepare(folder, SIDE)
    subprocess.run(["moec", "compile", folder / "model.onnx", "--emit=moe", "-o", folder / "m.mlir"],
                   check=True)
    os.truncate(data, 100)
    moec = subprocess.run(["moec", "compile", folder / "m.mlir", "-o", folder / "out/m.so"],
                          capture_output=True, text=True)
    return judge("before it is packed", moec.returncode, moec.stderr, folder, code=1)


def within(folder):
    data = prepare(folder, 16 * SIDE)
    moec = subprocess.Popen(command(folder), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while moec.poll() is None and not any((folder / "out").iterdir()):
        time.sleep(0.001)
    while moec.poll() is None and not any(p.stat().st_size for p in (folder / "out").iterdir()):
        time.sleep(0.001)
    os.truncate(data, 0)
    _, stderr = moec.communicate()
    return judge("while it is packed", moec.returncode, stderr, folder, code=5)


top = pathlib.Path(sys.argv[1]).absolute()
sys.exit(not all([between(top / "between"), within(top / "within")]))
