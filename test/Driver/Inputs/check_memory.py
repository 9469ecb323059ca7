"""usage: check_memory.py SCRATCH SLACK_MIB make_moe_model arguments...

Compiles a generated model and checks that the peak memory of the compiler stays below 1.5 x the
largest weight + SLACK_MIB.
"""
import os
import pathlib
import subprocess
import sys

import onnx

scratch, slack = pathlib.Path(sys.argv[1]), int(sys.argv[2])
maker = pathlib.Path(__file__).resolve().parents[3] / "utils/make_moe_model.py"
subprocess.run([sys.executable, maker, scratch, *sys.argv[3:]], check=True)
model = onnx.load(scratch / "model.onnx", load_external_data=False)
largest = max(int(e.value) for t in model.graph.initializer for e in t.external_data if e.key == "length")
total = (scratch / "model.onnx.data").stat().st_size
run = subprocess.Popen(["moec", "compile", scratch / "model.onnx", "-o", scratch / "m.so"])
_, status, usage = os.wait4(run.pid, 0)
assert status == 0, status
peak, limit = usage.ru_maxrss * 1024, 1.5 * largest + (slack << 20)
print(f"weights {total >> 20} MiB, largest {largest >> 20} MiB, peak {peak >> 20} MiB, limit {int(limit) >> 20} MiB")
packed = (scratch / "m.moew").stat().st_size
print("packed", packed >> 20, "MiB")
sys.exit(peak > limit or packed < total * 0.9)
