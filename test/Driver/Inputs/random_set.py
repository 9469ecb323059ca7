"""usage: random_set.py MODEL FOLDER    writes input_0.npy and output_0.npy

The model is one of utils/make_moe_model.py; the outputs are computed with NumPy in float64.
"""
import sys

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import load_external_data_for_model

path, folder = sys.argv[1:]
model = onnx.load(path, load_external_data=False)
load_external_data_for_model(model, path.rsplit("/", 1)[0])
weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
hidden = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
x = np.random.default_rng(0).standard_normal((3, hidden)).astype(np.float32)
np.save(f"{folder}/input_0.npy", x)
y = x.astype(np.float64)
layer = 0
while f"layers.{layer}.gate" in weights:
    gate, up, down = (weights[f"layers.{layer}.{n}"] for n in ("gate", "gate_up", "down"))
    k, out = int(weights["k"][0]), y.copy()
    for t, row in enumerate(y):
        p = np.exp(gate @ row - (gate @ row).max())
        p /= p.sum()
        chosen = np.argsort(-p, kind="stable")[:k]
        for e in chosen:
            g, u = np.split(up[e] @ row, 2)
            out[t] += p[e] / p[chosen].sum() * (down[e] @ (g / (1 + np.exp(-g)) * u))
    y, layer = out, layer + 1
np.save(f"{folder}/output_0.npy", y.astype(np.float32))
