"""usage: check_arrays.py FOLDER REPORT.json SMALL.onnx

Holds what `moec compress` says about the model of moe_arrays.py to what ONNX Runtime gives for both models.
"""
import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import numpy_helper

folder, report, small = pathlib.Path(sys.argv[1]), json.load(open(sys.argv[2])), sys.argv[3]


def outputs(model):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for path in sorted(folder.glob("eval/test_data_set_*")):
        tensors = [onnx.load_tensor(str(file)) for file in sorted(path.glob("input_*.pb"))]
        yield session.run(["y", "z"], {t.name: numpy_helper.to_array(t) for t in tensors})


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def measured():
    difference = whole = divergence = rows = 0
    for a, b in zip(outputs(folder / "moe.onnx"), outputs(small)):
        difference += sum(((u.astype(np.float64) - v) ** 2).sum() for u, v in zip(a, b))
        whole += sum((u.astype(np.float64) ** 2).sum() for u in a)
        p, q = softmax(a[0].astype(np.float64)), softmax(b[0].astype(np.float64))
        divergence += (p * np.log(p / q)).sum()
        rows += len(p)
    return {"error": difference / whole, "kl": divergence / rows}


name = report["measure"]
said, got = report[name + "_after"], measured()[name]
good = abs(said - got) <= 1e-3 * got + 1e-9 and report["labels"]["data"][name + "_after"] == said
print("ok" if good else "FAILED", f"{name} {said:.6g}, ONNX Runtime {got:.6g}")
good = not any("perplexity" in key for key in report) and report["sequences_per_second_after"] > 0
print("ok" if good else "FAILED", "no perplexity")
print(f"after {said:.6f} frequency {report[name + '_frequency']:.6f} random "
      f"{'worse' if report[name + '_random'] > said else 'no worse'}")
