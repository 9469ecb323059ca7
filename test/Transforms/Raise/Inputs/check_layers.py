"""Counts the raised layers of stored models and compares them with meta.json.

usage: check_layers.py [--verify] ROOT PATTERN...   (folders with model.onnx and meta.json)

With --verify the compiled models are also run on their stored data.
"""
import glob
import json
import pathlib
import subprocess
import sys


def moec(*arguments):
    return subprocess.run(["moec", *map(str, arguments)], capture_output=True, text=True)


def check(folder, verify):
    expected = json.loads((folder / "meta.json").read_text())["expect"]["moe.layer"]
    shown = moec("inspect", folder / "model.onnx", "--format=json")
    if shown.returncode:
        return f"{folder.name}: {shown.stderr[-500:]}"
    info = json.loads(shown.stdout)
    if len(info["moe_layers"]) != expected:
        reasons = "\n".join(f"  {each['reason']}" for each in info["not_raised"])
        return f"{folder.name}: {len(info['moe_layers'])} layers, {expected} expected\n{reasons}"
    if verify:
        ran = moec("verify", folder, "--no-onnxruntime", "--no-reference", "--no-locate")
        if ran.returncode:
            return f"{folder.name}: {ran.stdout[-300:]}{ran.stderr[-300:]}"
    return None


arguments = sys.argv[1:]
verify = arguments[0] == "--verify"
root, patterns = arguments[verify], arguments[verify + 1:]
folders = sorted({pathlib.Path(match) for pattern in patterns
                  for match in glob.glob(f"{root}/{pattern}")})
missing = [pattern for pattern in patterns if not glob.glob(f"{root}/{pattern}")]
faults = [fault for folder in folders if (fault := check(folder, verify))]
faults += [f"no model is called {pattern}" for pattern in missing]
print("\n".join(faults) or f"{len(folders)} models raised")
sys.exit(bool(faults))
