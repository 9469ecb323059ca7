"""Writes models of one quantised operator each: quantised.py FOLDER"""
import pathlib
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

F32, U8, I8, I32 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32
random = np.random.default_rng(3)


def codes(kind, *shape):
    low, high = (0, 256) if kind == np.uint8 else (-128, 128)
    return random.integers(low, high, shape).astype(kind)


def scalar(kind, value):
    return np.array(value, dtype=kind)


def write(name, operator, inputs, constants, output, domain="", extra=(), **attributes):
    """inputs: (name, type, shape); constants by name; the node reads `extra` or all in order."""
    node = helper.make_node(operator, list(extra) or [i[0] for i in inputs] + list(constants), ["y"],
                            domain=domain, **attributes)
    graph = helper.make_graph(
        [node], name, [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info("y", *output)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    save(model, pathlib.Path(sys.argv[1]) / f"{name}.onnx")


u8, i8, f32 = np.uint8, np.int8, np.float32
scales = random.uniform(0.01, 0.1, 6).astype(f32)
write("integers", "MatMulInteger", [("x", U8, ["n", 600])],
      {"w": codes(i8, 600, 6), "zx": scalar(u8, 3), "zw": codes(i8, 6)}, (I32, ["n", 6]))
write("linear", "QLinearMatMul", [("x", U8, ["n", 16])],
      {"sx": scalar(f32, 0.5), "zx": scalar(u8, 3), "w": codes(i8, 16, 6), "sw": scalar(f32, 0.02),
       "zw": scalar(i8, 1), "sy": scalar(f32, 0.7), "zy": scalar(u8, 120)}, (U8, ["n", 6]))
write("conv", "QLinearConv", [("x", U8, ["n", 3, 6, 6])],
      {"sx": scalar(f32, 0.5), "zx": scalar(u8, 3), "w": codes(i8, 6, 3, 3, 3), "sw": scales,
       "zw": np.zeros(6, i8), "sy": scalar(f32, 3), "zy": scalar(u8, 120),
       "b": random.integers(-500, 500, 6).astype(np.int32)}, (U8, ["n", 6, 6, 6]), pads=[1, 1, 1, 1])
microsoft = "com.microsoft"
write("dynamic", "DynamicQuantizeMatMul", [("x", F32, ["n", 16])],
      {"w": codes(i8, 16, 6), "sw": scales, "zw": np.zeros(6, i8), "b": scales}, (F32, ["n", 6]),
      microsoft)
write("to-float", "MatMulIntegerToFloat", [("x", U8, ["n", 16])],
      {"w": codes(u8, 16, 6), "sx": scalar(f32, 0.5), "sw": scalar(f32, 0.02), "zx": scalar(u8, 3),
       "zw": scalar(u8, 130)}, (F32, ["n", 6]), microsoft)
pair = {"sx": scalar(f32, 0.1), "zx": scalar(u8, 2), "w": codes(u8, 6), "sw": scalar(f32, 0.02),
        "zw": scalar(u8, 1), "sy": scalar(f32, 0.05), "zy": scalar(u8, 20)}
for name in ("QLinearAdd", "QLinearMul"):
    write(name.lower(), name, [("x", U8, ["n", 6])], pair, (U8, ["n", 6]), microsoft)
write("qlinearsigmoid", "QLinearSigmoid", [("x", U8, ["n", 6])],
      {"sx": scalar(f32, 0.5), "zx": scalar(u8, 2), "sy": scalar(f32, 1 / 256), "zy": scalar(u8, 0)},
      (U8, ["n", 6]), microsoft)
