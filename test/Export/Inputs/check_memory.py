"""usage: check_memory.py SCRATCH SLACK_MIB make_moe_model arguments...

Exports a generated model, with MoE nodes and without, and checks that the peak memory of moec stays
within SLACK_MIB of what it takes for the same layers of a tiny size.
"""
import os
import pathlib
import subprocess
import sys

MAKER = pathlib.Path(__file__).resolve().parents[3] / "utils/make_moe_model.py"


def export(folder, mode, words):
    if not (folder / "model.onnx").exists():
        subprocess.run([sys.executable, MAKER, folder, *words], check=True)
    run = subprocess.Popen(["moec", "export", folder / "model.onnx", "-o", folder / "out.onnx",
                            f"--fused={mode}"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(run.pid, 0)
    size, source = ((folder / name).stat().st_size for name in ("out.onnx.data", "model.onnx.data"))
    if status or abs(size - source) > source // 10:
        sys.exit(f"status {status}, {size} bytes of weights written of {source}")
    return usage.ru_maxrss * 1024, source


scratch, slack, words = pathlib.Path(sys.argv[1]), int(sys.argv[2]) << 20, sys.argv[3:]
small = words + ["--hidden", "64", "--inter", "64"]
failed = False
for mode in "auto", "never":
    base, _ = export(scratch / "tiny", mode, small)
    peak, total = export(scratch / "large", mode, words)
    print(f"weights {total >> 20} MiB, peak {peak >> 20} MiB, {base >> 20} MiB for the tiny model")
    failed |= peak > base + slack
sys.exit(failed)
