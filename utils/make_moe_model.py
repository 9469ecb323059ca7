#!/usr/bin/env python3
"""Writes an ONNX model of stacked MoE layers with random weights, of any size.

The weights go to external data in slices, so a model far larger than memory can be written.
Each layer is the gathered-weights form that exporters write for decode graphs: a softmax router,
TopK, renormalisation, GatherND of the experts' weights and a SwiGLU expert; layers are residual.
With --vocabulary it is a language model: token ids, an embedding in front, logits behind.

example: make_moe_model.py /tmp/big --layers 6 --experts 32 --hidden 2048 --inter 1024 --dtype f32
         (4.5 GiB)
"""
import argparse
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper

TYPES = {"f32": (TensorProto.FLOAT, np.float32), "f16": (TensorProto.FLOAT16, np.float16)}


class Builder:
    def __init__(self, folder, dtype, seed):
        self.code, self.numpy = TYPES[dtype]
        self.random = np.random.default_rng(seed)
        self.data = open(folder / "model.onnx.data", "wb")
        self.nodes, self.initializers = [], []

    def weight(self, name, shape, scale):
        """A random weight in external data, written at most 64 MiB at a time."""
        self.data.write(b"\0" * (-self.data.tell() % 4096))
        offset, rows = self.data.tell(), shape[0]
        row = int(np.prod(shape[1:]))
        step = max(1, (16 << 20) // max(row, 1))
        for first in range(0, rows, step):
            values = self.random.standard_normal((min(step, rows - first), row), np.float32)
            (values * np.float32(scale)).astype(self.numpy).tofile(self.data)
        tensor = TensorProto(name=name, data_type=self.code, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "model.onnx.data"), ("offset", offset),
                           ("length", self.data.tell() - offset)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        if self.code == TensorProto.FLOAT:
            return name
        return self.node("Cast", [name], to=TensorProto.FLOAT)

    def constant(self, name, values, dtype=np.int64):
        if all(t.name != name for t in self.initializers):
            self.initializers.append(onnx.numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def node(self, op, inputs, outputs=1, **attributes):
        index = len(self.nodes)
        names = [f"{op}_{index}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{index}", **attributes))
        return names[0] if outputs == 1 else names


def layer(b, x, number, args):
    e, h, i, k = args.experts, args.hidden, args.inter, args.top_k
    gate = b.weight(f"layers.{number}.gate", [e, h], h ** -0.5)
    up = b.weight(f"layers.{number}.gate_up", [e, 2 * i, h], h ** -0.5)
    down = b.weight(f"layers.{number}.down", [e, h, i], i ** -0.5)
    last, first = b.constant("last", [-1]), b.constant("first", [1])
    probabilities = b.node("Softmax", [b.node("Gemm", [x, gate], transB=1)], axis=-1)
    weights, ids = b.node("TopK", [probabilities, b.constant("k", [k])], 2, axis=-1)
    weights = b.node("Div", [weights, b.node("ReduceSum", [weights, last], keepdims=1)])
    tokens = b.node("Tile", [b.node("Unsqueeze", [x, first]), b.constant("tile", [1, k, 1])])
    rows = b.node("Reshape", [tokens, b.constant("rows", [-1, h])])
    index = b.node("Unsqueeze", [b.node("Reshape", [ids, last]), last])
    hidden = b.node("MatMul", [b.node("GatherND", [up, index]), b.node("Unsqueeze", [rows, last])])
    g, u = b.node("Split", [b.node("Squeeze", [hidden, last])], 2, axis=1, num_outputs=2)
    act = b.node("Mul", [b.node("Mul", [g, b.node("Sigmoid", [g])]), u])
    y = b.node("MatMul", [b.node("GatherND", [down, index]), b.node("Unsqueeze", [act, last])])
    flat = b.node("Unsqueeze", [b.node("Reshape", [weights, last]), last])
    y = b.node("Mul", [b.node("Squeeze", [y, last]), flat])
    y = b.node("Reshape", [y, b.constant("slots", [-1, k, h])])
    return b.node("Add", [x, b.node("ReduceSum", [y, first], keepdims=0)])


def embedded(b, table, ids, args):
    return b.node("Reshape", [b.node("Gather", [table, ids]), b.constant("vectors", [-1, args.hidden])])


def logits(b, x, table, ids, args):
    head = b.node("Transpose", [table], perm=[1, 0]) if args.tied else b.weight(
        "head", [args.hidden, args.vocabulary], args.hidden ** -0.5)
    shape = b.node("Concat", [b.node("Shape", [ids]), b.constant("vocabulary", [args.vocabulary])], axis=0)
    return b.node("Reshape", [b.node("MatMul", [x, head]), shape])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    for name, default in (("layers", 2), ("experts", 8), ("hidden", 64), ("inter", 32),
                          ("top-k", 2), ("vocabulary", 0), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tied", action="store_true", help="the embedding gives the logits, too")
    parser.add_argument("--dtype", choices=TYPES, default="f32", help="of the stored weights")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    b = Builder(args.folder, args.dtype, args.seed)
    text = args.vocabulary > 0
    table = b.weight("embedding", [args.vocabulary, args.hidden], 1) if text else None
    x = embedded(b, table, "ids", args) if text else "x"
    for number in range(args.layers):
        x = layer(b, x, number, args)
    b.node("Identity", [logits(b, x, table, "ids", args) if text else x])
    b.nodes[-1].output[0] = "logits" if text else "y"
    if text:
        ends = [("ids", TensorProto.INT64, ["batch", "sequence"]),
                ("logits", TensorProto.FLOAT, ["batch", "sequence", args.vocabulary])]
    else:
        ends = [(name, TensorProto.FLOAT, ["tokens", args.hidden]) for name in ("x", "y")]
    values = [helper.make_tensor_value_info(*end) for end in ends]
    graph = helper.make_graph(b.nodes, "moe", values[:1], values[1:], b.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, args.folder / "model.onnx")
    b.data.close()


if __name__ == "__main__":
    main()
