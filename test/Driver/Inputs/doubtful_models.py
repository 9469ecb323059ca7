"""usage: doubtful_models.py FOLDER    writes small MoE models, each with one thing that is odd"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EXPERTS, HIDDEN, INTER = 4, 8, 16
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)


def write(name, change=lambda weights: None, op="MoE", domain="com.microsoft"):
    random = np.random.default_rng(5)
    weights = {"router": random.standard_normal((HIDDEN, EXPERTS)),
               "bias": np.zeros(EXPERTS),
               "fc1": random.standard_normal((EXPERTS, INTER, HIDDEN)),
               "fc2": random.standard_normal((EXPERTS, HIDDEN, INTER))}
    change(weights)
    nodes = [helper.make_node("MatMul", ["x", "router"], ["z"], name="router"),
             helper.make_node("Add", ["z", "bias"], ["logits"], name="router/bias"),
             helper.make_node(op, ["x", "logits", "fc1", "", "fc2"], ["y"], name="experts",
                              domain=domain, k=2, activation_type="relu",
                              normalize_routing_weights=1)]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", HIDDEN]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], [
        numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()])
    model = helper.make_model(graph, ir_version=10, opset_imports=[
        helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)])
    onnx.save(model, folder / f"{name}.onnx")


def tie(w):
    for name in ("fc1", "fc2"):
        w[name][3] = w[name][1]


def spoil(w):
    w["fc2"][2, 1, 1] = np.nan


def equal_columns(w):
    w["router"][:, 2] = w["router"][:, 0]


def starve(w):
    w["bias"][3] = -1e4


write("good")
write("tied", tie)
write("nan", spoil)
write("columns", equal_columns)
write("idle", starve)
write("unknown", op="Frobnicate", domain="com.example")
np.save(folder / "x.npy", np.random.default_rng(6).standard_normal((6, HIDDEN)).astype(np.float32))
