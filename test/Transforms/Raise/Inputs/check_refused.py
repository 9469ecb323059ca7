"""No layer is raised from the graphs whose meta.json expects none.

usage: check_refused.py ROOT
"""
import json
import pathlib
import subprocess
import sys

root, faults, count = pathlib.Path(sys.argv[1]), [], 0
for folder in sorted(root.glob("neg-*")):
    expect = json.loads((folder / "meta.json").read_text())["expect"]
    if expect.get("moe.layer") != 0 or "or" in expect:
        continue
    count += 1
    run = subprocess.run(["moe-opt", folder / "model.onnx", "-fold-weights", "-raise-moe"],
                         capture_output=True, text=True)
    if run.returncode or "moe.experts" in run.stdout:
        faults.append(f"{folder.name}: " + (run.stderr[-300:] if run.returncode else "raised"))
print("\n".join(faults) or f"{count} graphs left alone")
sys.exit(bool(faults) or not count)
