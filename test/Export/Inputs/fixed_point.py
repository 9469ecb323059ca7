"""usage: fixed_point.py SCRATCH [--under FOLDER]... [CASE]...

Exports each case with MoE nodes and without, and checks that
- what is raised from the export is what was raised from the case: layers, routers, experts;
- ONNX Runtime gives the expected outputs within the case's tolerance. Where it does not, it must fail
  on the case's own file too: operators and types that it lacks, its own deviations.
"""
import argparse
import json
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

onnxruntime.set_default_logger_severity(4)
LAYER = ("experts", "k", "hidden", "inter", "activation", "gated")
ROUTER = ("kind", "score", "k", "renorm", "scale")


def tensor(path):
    proto = onnx.TensorProto.FromString(path.read_bytes())
    return proto.name, numpy_helper.to_array(proto)


def mismatch(case, model):
    """What is wrong with ONNX Runtime's results on the case's data; None when nothing is."""
    meta = json.loads((case / "meta.json").read_text())
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        for folder in sorted(case.glob("test_data_set_*")):
            inputs = dict(tensor(p) for p in folder.glob("input_*.pb"))
            got = dict(zip(names, session.run(None, inputs)))
            for i in range(len(list(folder.glob("output_*.pb")))):
                name, want = tensor(folder / f"output_{i}.pb")
                have = got[name].astype(np.float64)
                if have.shape != want.shape or not np.allclose(
                        have, want.astype(np.float64), atol=meta.get("atol", 1e-4),
                        rtol=meta.get("rtol", 1e-3), equal_nan=True):
                    return f"{folder.name}: {name} differs"
    except Exception as error:  # whatever ONNX Runtime raises
        return str(error).splitlines()[0][:160]
    return None


def router(given):
    # Weights that no router of tokens gives are called after what computes them.
    foreign = {} if given["kind"] in ("route", "select") else {"kind": "weights"}
    return {k: given.get(k) for k in ROUTER} | foreign


def layers(model):
    run = subprocess.run(["moec", "inspect", model, "--format=json"], capture_output=True, text=True)
    if run.returncode:
        return run.stderr
    # Rows of several axes come back as vectors: what only an FFN has is compared where it is one.
    return sorted(json.dumps([{k: l.get(k) for k in (LAYER if "activation" in l else LAYER[:2])},
                              l["router"] and router(l["router"])])
                  for l in json.loads(run.stdout)["moe_layers"])


parser = argparse.ArgumentParser()
parser.add_argument("scratch", type=pathlib.Path)
parser.add_argument("--under", type=pathlib.Path, action="append", default=[])
parser.add_argument("cases", type=pathlib.Path, nargs="*")
args = parser.parse_args()
cases = args.cases + [p.parent for under in args.under for p in sorted(under.glob("*/model.onnx"))]
exports = agree = failed = tried = 0
for case in cases:
    meta = json.loads((case / "meta.json").read_text())
    if "error" in (meta.get("expect") or {}):
        continue
    tried += 1
    before = None
    for mode in "auto", "never":
        output = args.scratch / f"{mode}.onnx"
        for path in output, args.scratch / f"{mode}.onnx.data":
            path.unlink(missing_ok=True)
        run = subprocess.run(["moec", "export", case / "model.onnx", "-o", output, f"--fused={mode}"],
                             capture_output=True, text=True)
        if run.returncode:
            print(f"FAILED {case.name} {mode}: exit {run.returncode}: {run.stderr.strip()}")
            failed += 1
            continue
        exports += 1
        before = before if before is not None else layers(case / "model.onnx")
        after = layers(output)
        # An export of what was not raised may be raised: it went through the pipeline once more.
        if before and before != after:
            print(f"FAILED {case.name} {mode}: {before} became {after}")
            failed += 1
        wrong = mismatch(case, output)
        if wrong is None:
            agree += 1
        elif mismatch(case, case / "model.onnx") is None:
            print(f"FAILED {case.name} {mode}: {wrong}")
            failed += 1
print(f"{tried} cases, {exports} exports, {agree} agree with ONNX Runtime, {failed} failed")
