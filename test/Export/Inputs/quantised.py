"""Quantised models through `moec export`: of experts a QMoE node with the bytes of the source comes
out, of other weights DequantizeLinear of the same numbers.

usage: quantised.py <folder>

The models are those of contributed.py; ONNX Runtime's outputs of source and result are compared.
"""
import pathlib
import subprocess
import sys

import numpy as np
import onnx
from onnx import numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "Transforms/Prepare/Inputs"))
import contributed  # noqa: E402

CASES = {
    "rows": contributed.qmoe(1, act="silu", zeros=True),
    "rows-8": contributed.qmoe(2, act="relu", bits=8, biases=True, zeros=True),
    "blocks": contributed.qmoe(3, block=16, bits=2, zeros=True),
    "pairs": contributed.qmoe(4, biases=True),
    "router-weights": contributed.qmoe(6, weights="positive", norm=0),
    "router-weights-normalised": contributed.qmoe(7, weights="positive"),
    "pairs-zeros": contributed.qmoe(5, zeros=True),
}


WEIGHTS = {
    "nbits": contributed.nbits(1, n=64, k=64, block=32),
    "nbits-2-zeros": contributed.nbits(2, n=64, k=64, bits=2, zeros="packed"),
    "nbits-8-part": contributed.nbits(3, n=64, k=72, bits=8, block=32),
    "gather": contributed.gather_blocks(4, zeros=True),
}


def check_weights(folder, wrong):
    for name, case in WEIGHTS.items():
        source, target = folder / f"{name}.onnx", folder / f"{name}.exported.onnx"
        model = case.model()
        before = contributed.outputs_of(case, model)
        contributed.declare(model, before)
        onnx.save(model, source)
        run = subprocess.run(["moec", "export", str(source), "-o", str(target)], capture_output=True, text=True)
        if run.returncode:
            wrong.append(f"{name}: {run.stderr}")
            continue
        exported = onnx.load(target)
        if not any(n.op_type == "DequantizeLinear" for n in exported.graph.node):
            wrong.append(f"{name}: {[n.op_type for n in exported.graph.node]}")
        sizes = [sum(len(t.raw_data) for t in m.graph.initializer) for m in (model, exported)]
        if sizes[1] > 2 * sizes[0] + 1024:
            wrong.append(f"{name}: {sizes[0]} bytes became {sizes[1]}")
        after = contributed.outputs_of(case, exported)
        if not np.allclose(before[0], after[0], 1e-5, 1e-5):
            wrong.append(f"{name}: differs by {np.abs(before[0] - after[0]).max()}")


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    wrong = []
    check_weights(folder, wrong)
    for name, case in CASES.items():
        source, target = folder / f"{name}.onnx", folder / f"{name}.exported.onnx"
        model = case.model()
        before = contributed.outputs_of(case, model)
        contributed.declare(model, before)
        onnx.save(model, source)
        run = subprocess.run(["moec", "export", str(source), "-o", str(target)], capture_output=True, text=True)
        if run.returncode:
            wrong.append(f"{name}: {run.stderr}")
            continue
        exported = onnx.load(target)
        nodes = [n for n in exported.graph.node if n.op_type == "QMoE"]
        if len(nodes) != 1 or any(n.domain == "" and n.op_type == "TopK" for n in exported.graph.node):
            wrong.append(f"{name}: {[n.op_type for n in exported.graph.node]}")
            continue
        mine = {numpy_helper.to_array(t).tobytes() for t in exported.graph.initializer}
        for tensor in model.graph.initializer:
            if numpy_helper.to_array(tensor).tobytes() not in mine:
                wrong.append(f"{name}: {tensor.name} is not in the result")
        after = contributed.outputs_of(case, exported)
        if not np.allclose(before[0], after[0], 1e-5, 1e-5):
            wrong.append(f"{name}: differs by {np.abs(before[0] - after[0]).max()}")
    print("\n".join(wrong) or f"{len(CASES) + len(WEIGHTS)} models as they were")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
