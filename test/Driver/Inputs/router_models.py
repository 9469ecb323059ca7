"""usage: router_models.py FOLDER

Writes language models with random weights whose routers are not a renormalised softmax, and texts:
  bias.onnx    sigmoid scores, a correction bias that only the choice sees, renormalised and scaled
               weights, a shared expert, a dense layer in front; attention_mask and position_ids
  groups.onnx  the same, limited to the best two of three groups of experts
  switch.onnx  softmax, one expert, its weight as it is; GELU experts with biases, in a loop
  data, eval   folders of token ids
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper

V, H, I, E, K = 48, 32, 32, 12, 2


class Graph:
    def __init__(self, seed):
        self.nodes, self.initializers, self.random = [], [], np.random.default_rng(seed)

    def constant(self, values, dtype=np.int64):
        array = np.array(values, dtype)
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return name

    def weight(self, name, *shape, scale=None):
        scale = shape[-1] ** -0.5 if scale is None else scale
        array = (self.random.standard_normal(shape) * scale).astype(np.float32)
        self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return name

    def __call__(self, op, *inputs, out=1, **attributes):
        number = len(self.nodes)
        names = [f"{op}_{number}_{i}" for i in range(out)]
        inputs = [i if isinstance(i, str) else self.constant(i, np.float32 if isinstance(i, float)
                                                             else np.int64) for i in inputs]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{number}", **attributes))
        return names[0] if out == 1 else names

    def save(self, path, inputs, opset):
        self.nodes[-1].output[0] = "logits"
        text = ["batch", "sequence"]
        graph = helper.make_graph(
            self.nodes, "model",
            [helper.make_tensor_value_info(name, TensorProto.INT64, text) for name in inputs],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, text + [V])],
            self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path, save_as_external_data=True, location=path.name + ".data",
                  size_threshold=256)


def norm(g, x):
    mean = g("ReduceMean", g("Mul", x, x), axes=[-1], keepdims=1)
    return g("Div", x, g("Sqrt", g("Add", mean, 1e-6)))


def causal(g, size):
    r = g("Range", 0, g("Squeeze", size, [0]), 1)
    return g("LessOrEqual", g("Unsqueeze", r, [0]), g("Unsqueeze", r, [1]))


def attention(g, x, name, allowed):
    y = norm(g, x)
    q, k, v = (g("MatMul", y, g.weight(f"{name}.{part}", H, H)) for part in "qkv")
    scores = g("Mul", g("MatMul", q, g("Transpose", k, perm=[0, 2, 1])), float(H ** -0.5))
    scores = g("Where", allowed, scores, -1e9)
    return g("Add", x, g("MatMul", g("MatMul", g("Softmax", scores, axis=-1), v),
                         g.weight(f"{name}.o", H, H)))


def swiglu(g, x, name):
    gate = g("MatMul", x, g.weight(f"{name}.gate_proj", H, I))
    up = g("MatMul", x, g.weight(f"{name}.up_proj", H, I))
    return g("MatMul", g("Mul", g("Mul", gate, g("Sigmoid", gate)), up),
             g.weight(f"{name}.down_proj", I, H))


def best_groups(g, choice, groups, keep):
    two = g("TopK", g("Reshape", choice, [-1, groups, E // groups]), [2], out=2, axis=-1)[0]
    score = g("ReduceSum", two, [-1], keepdims=0)
    best = g("TopK", score, [keep], out=2, axis=-1)[1]
    ones = g("Expand", 1.0, g("Shape", best))
    mask = g("ScatterElements", g("Expand", 0.0, g("Shape", score)), best, ones, axis=1)
    mask = g("Expand", g("Unsqueeze", mask, [-1]), [1, groups, E // groups])
    mask = g("Cast", g("Reshape", mask, [-1, E]), to=TensorProto.BOOL)
    return g("Where", g("Not", mask), float("-inf"), choice)


def gathered_experts(g, x, name, groups):
    scores = g("Sigmoid", g("Gemm", x, g.weight(f"{name}.gate", E, H, scale=0.5), transB=1))
    choice = g("Add", scores, g.weight(f"{name}.e_score_correction_bias", E, scale=0.1))
    if groups:
        choice = best_groups(g, choice, groups, 2)
    ids = g("TopK", choice, [K], out=2, axis=-1)[1]
    weights = g("GatherElements", scores, ids, axis=1)
    total = g("Add", g("ReduceSum", weights, [-1], keepdims=1), 1e-20)
    weights = g("Reshape", g("Mul", g("Div", weights, total), 2.5), [-1, 1])
    index = g("Reshape", ids, [-1, 1])
    rows = g("Reshape", g("Tile", g("Unsqueeze", x, [1]), [1, K, 1]), [-1, H, 1])
    hidden = g("Squeeze", g("MatMul", g("GatherND", g.weight(f"{name}.gate_up", E, 2 * I, H), index),
                            rows), [-1])
    gate, up = g("Split", hidden, out=2, axis=1)
    hidden = g("Unsqueeze", g("Mul", g("Mul", gate, g("Sigmoid", gate)), up), [-1])
    y = g("Squeeze", g("MatMul", g("GatherND", g.weight(f"{name}.down", E, H, I), index), hidden), [-1])
    return g("ReduceSum", g("Reshape", g("Mul", y, weights), [-1, K, H]), [1], keepdims=0)


def with_bias(path, groups):
    g = Graph(1)
    x = g("Gather", g.weight("embedding", V, H, scale=1), "input_ids")
    turn = g("Cos", g("Cast", g("Unsqueeze", "position_ids", [2]), to=TensorProto.FLOAT))
    x = g("Add", x, g("Mul", turn, g.weight("position", H)))
    allowed = g("And", causal(g, g("Shape", "input_ids", start=1)),
                g("Cast", g("Unsqueeze", "attention_mask", [1]), to=TensorProto.BOOL))
    x = attention(g, x, "layers.0", allowed)
    x = g("Add", x, swiglu(g, norm(g, x), "layers.0.mlp"))
    for layer in (1, 2):
        x = attention(g, x, f"layers.{layer}", allowed)
        y = norm(g, x)
        routed = gathered_experts(g, g("Reshape", y, [-1, H]), f"layers.{layer}", groups)
        shared = swiglu(g, y, f"layers.{layer}.shared_experts")
        x = g("Add", x, g("Add", g("Reshape", routed, g("Shape", x)), shared))
    g("MatMul", norm(g, x), g.weight("lm_head", H, V))
    g.save(path, ["input_ids", "attention_mask", "position_ids"], 17)


def looped_experts(g, x, name):
    logits = g("MatMul", x, g.weight(f"{name}.router", H, E))
    weight, ids = g("TopK", g("Softmax", logits, axis=-1), [1], out=2, axis=-1)
    chosen = g("Transpose", g("OneHot", ids, E, [0, 1], axis=-1), perm=[2, 1, 0])
    y = g("Mul", x, 0.0)
    for e in range(E):
        expert = f"{name}.experts.{e}"
        hit = g("NonZero", g("Cast", g("Gather", chosen, e, axis=0), to=TensorProto.BOOL))
        slot, token = g("Split", g("Transpose", hit, perm=[1, 0]), [1, 1], out=2, axis=1)
        z = g("Gather", x, g("Squeeze", token, [1]))
        z = g("Gemm", z, g.weight(f"{expert}.wi", I, H), g.weight(f"{expert}.wi.bias", I), transB=1)
        z = g("Mul", g("Mul", z, g("Add", g("Erf", g("Div", z, float(2 ** 0.5))), 1.0)), 0.5)
        z = g("Gemm", z, g.weight(f"{expert}.wo", H, I), g.weight(f"{expert}.wo.bias", H), transB=1)
        share = g("GatherND", weight, g("Concat", token, slot, axis=1))
        y = g("ScatterND", y, token, g("Mul", z, g("Unsqueeze", share, [1])), reduction="add")
    return y


def switch(path):
    g = Graph(2)
    x = g("Gather", g.weight("embedding", V, H, scale=1), "input_ids")
    allowed = causal(g, g("Shape", "input_ids", start=1))
    for layer in range(2):
        x = attention(g, x, f"layers.{layer}", allowed)
        y = looped_experts(g, g("Reshape", norm(g, x), [-1, H]), f"layers.{layer}")
        x = g("Add", x, g("Reshape", y, g("Shape", x)))
    g("MatMul", norm(g, x), g.weight("lm_head", H, V))
    g.save(path, ["input_ids"], 16)


def texts(folder, seed):
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    for label, high in (("low", V // 2), ("any", V)):
        np.save(folder / f"{label}.npy", random.integers(0, high, 800).astype(np.int32))


out = pathlib.Path(sys.argv[1])
with_bias(out / "bias.onnx", 0)
with_bias(out / "groups.onnx", 3)
switch(out / "switch.onnx")
texts(out / "data", 3)
texts(out / "eval", 4)
