"""Runs the passes over stored models and compares the raised layers with meta.json.

usage: check_raised.py ROOT PATTERN...   (folders with model.onnx and meta.json)
"""
import glob
import json
import pathlib
import subprocess
import sys

PIPELINE = ("builtin.module(canonicalize,cse,decompose-contrib,decompose-onnx,fold-weights,"
            "raise-moe,canonicalize,cse,fuse-gating,canonicalize,cse,fold-weights)")


def check(folder):
    expected = json.loads((folder / "meta.json").read_text())["expect"]["moe.layer"]
    run = subprocess.run(["moe-opt", folder / "model.onnx", f"--pass-pipeline={PIPELINE}"],
                         capture_output=True, text=True)
    if run.returncode:
        return f"{folder.name}: {run.stderr[-500:]}"
    layers = run.stdout.count(" = moe.experts @")
    routers = run.stdout.count(" = moe.route(")
    left = run.stdout.count(" = onnx.TopK") + run.stdout.count(" = moe.select ")
    if (layers, routers, left) == (expected, expected, 0):
        return None
    refused = [line for line in run.stderr.splitlines() if "refused" in line]
    return (f"{folder.name}: {layers} layers, {routers} routers, {left} selections left; "
            f"{expected} layers expected\n" + "\n".join(refused))


folders = sorted({pathlib.Path(match) for pattern in sys.argv[2:]
                  for match in glob.glob(f"{sys.argv[1]}/{pattern}")})
faults = [fault for fault in map(check, folders) if fault]
print("\n".join(faults) or f"{len(folders)} models raised")
sys.exit(bool(faults) or not folders)
