"""usage: check_cases.py MODELS [--level N] PATTERN...

For each folder of MODELS that matches a pattern: `moec verify` passes, `moec inspect` finds as many
MoE layers as meta.json says, and no TopK is left.
"""
import argparse
import fnmatch
import json
import pathlib
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("models", type=pathlib.Path)
parser.add_argument("patterns", nargs="+")
parser.add_argument("--level", type=int, default=2)
args = parser.parse_args()
folders = [f for f in sorted(args.models.iterdir())
           if any(fnmatch.fnmatch(f.name, p) for p in args.patterns)]
bad = 0
for folder in folders:
    faults = []
    verify = subprocess.run(["moec", "verify", folder, "--no-onnxruntime", f"-O{args.level}"],
                            capture_output=True, text=True)
    if verify.returncode:
        faults.append(f"verify ended with {verify.returncode}:\n{verify.stdout}{verify.stderr}".rstrip())
    if args.level:
        meta = json.loads((folder / "meta.json").read_text())
        inspect = subprocess.run(["moec", "inspect", folder / "model.onnx", "--format=json"],
                                 capture_output=True, text=True)
        if inspect.returncode:
            faults.append(f"inspect ended with {inspect.returncode}: {inspect.stderr.rstrip()}")
        else:
            report = json.loads(inspect.stdout)
            layers = [l for l in report["moe_layers"] if not l["shared"]]
            if len(layers) != meta["moe_layers"]:
                faults.append(f"{len(layers)} MoE layers, meta.json says {meta['moe_layers']}: "
                              + json.dumps(report["not_raised"]))
            if "onnx.TopK" in report["operators"]:
                faults.append("a TopK is left")
    print("FAILED" if faults else "ok", folder.name, *faults, flush=True)
    bad += bool(faults)
print(f"{len(folders)} cases, {bad} failed")
sys.exit(bad or not folders)
