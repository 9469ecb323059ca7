"""usage: check_memory.py SCRATCH SLACK_MIB [--relative] make_moe_model arguments...

Compiles a generated model and checks that the peak memory of the compiler stays below 1.5 x the
largest weight + SLACK_MIB; with --relative, above what it needs for the same layers of a tiny size.
"""
import os
import pathlib
import subprocess
import sys

import onnx

MAKER = pathlib.Path(__file__).resolve().parents[3] / "utils/make_moe_model.py"


def compile_one(folder, words):
    """Peak memory of the compile, the largest weight, all weights; in bytes."""
    subprocess.run([sys.executable, MAKER, folder, *words], check=True)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    largest = max(int(e.value) for t in model.graph.initializer for e in t.external_data
                  if e.key == "length")
    total = (folder / "model.onnx.data").stat().st_size
    run = subprocess.Popen(["moec", "compile", folder / "model.onnx", "-o", folder / "m.so"])
    _, status, usage = os.wait4(run.pid, 0)
    packed = (folder / "m.moew").stat().st_size
    if status or packed < total * 0.9:
        sys.exit(f"status {status}, {packed} bytes packed of {total}")
    return usage.ru_maxrss * 1024, largest, total


scratch, slack, words = pathlib.Path(sys.argv[1]), int(sys.argv[2]) << 20, sys.argv[3:]
if words[0] == "--relative":
    words = words[1:]
    slack += compile_one(scratch / "tiny", words + ["--hidden", "32", "--inter", "16"])[0]
peak, largest, total = compile_one(scratch, words)
limit = int(1.5 * largest) + slack
print(f"weights {total >> 20} MiB, largest {largest >> 20} MiB, peak {peak >> 20} MiB, limit {limit >> 20} MiB")
sys.exit(peak > limit)
