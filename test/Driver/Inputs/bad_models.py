"""usage: bad_models.py FOLDER    writes one damaged or unsupported model for each case below"""
import os
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
FLOAT = TensorProto.FLOAT


def value(name, *dims, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, list(dims))


def save(name, nodes, inputs, outputs, weights=(), opset=20, domains=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def external(name, location, dims, offset=0, length=None):
    tensor = TensorProto(name=name, data_type=FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    length = 4 * int(np.prod(dims)) if length is None else length
    for key, text in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)
    return tensor


def product(name, weight):
    save(name, [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
         [value("x", "n", 4)], [value("y", "n", 4)], [weight])


# Files that are no models.
(folder / "empty.onnx").write_bytes(b"")
(folder / "pointer.onnx").write_text("version https://git-lfs.github.com/spec/v1\n"
                                     "oid sha256:" + "0" * 64 + "\nsize 12345\n")
(folder / "noise.onnx").write_bytes(bytes(range(256)) * 4)
weights = numpy_helper.from_array(np.ones((64, 4), np.float32), "w")
product("whole", numpy_helper.from_array(np.ones((4, 4), np.float32), "w"))
data = (folder / "whole.onnx").read_bytes()
(folder / "truncated.onnx").write_bytes(data[: len(data) * 2 // 3])

# External data.
(folder / "data.bin").write_bytes(bytes(64))
(folder.parent / "secret.bin").write_bytes(bytes(64))
product("data-parent", external("w", "../secret.bin", [4, 4]))
product("data-absolute", external("w", str(folder.parent / "secret.bin"), [4, 4]))
link = folder / "link.bin"
link.unlink(missing_ok=True)
os.symlink("../secret.bin", link)
product("data-link", external("w", "link.bin", [4, 4]))
product("data-missing", external("w", "nothing.bin", [4, 4]))
product("data-range", external("w", "data.bin", [4, 4], offset=32))
product("data-overflow", external("w", "data.bin", [4, 4], offset=2**64 - 16))
product("data-length", external("w", "data.bin", [4, 4], length=60))
(folder / "lfs.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:"
                                + "0" * 64 + "\nsize 64\n")
product("data-pointer", external("w", "lfs.bin", [4, 4]))

# Graphs that contradict themselves.
save("cycle", [helper.make_node("Add", ["x", "b"], ["a"], name="first"),
               helper.make_node("Add", ["a", "x"], ["b"], name="second")],
     [value("x", "n")], [value("b", "n")])
save("undefined", [helper.make_node("Relu", ["nothing"], ["y"], name="relu")],
     [value("x", "n")], [value("y", "n")])
save("shapes", [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
     [value("x", "n", 5)], [value("y", "n", 4)],
     [numpy_helper.from_array(np.ones((4, 4), np.float32), "w")])
save("k", [helper.make_node("TopK", ["x", "k"], ["v", "i"], name="top")],
     [value("x", "n", 8)], [value("v", "n", 9)],
     [numpy_helper.from_array(np.array([9], np.int64), "k")])


def moe(name, router_experts, bank_experts):
    """com.microsoft.MoE whose router has another number of experts than its weights."""
    rng = np.random.default_rng(0)

    def weight(label, *dims):
        return numpy_helper.from_array(rng.standard_normal(dims).astype(np.float32), label)

    save(name, [helper.make_node("MatMul", ["x", "router"], ["logits"], name="router"),
                helper.make_node("MoE", ["x", "logits", "up", "", "down"], ["y"], name="layer.0/MoE",
                                 domain="com.microsoft", k=2, activation_type="relu")],
         [value("x", "n", 8)], [value("y", "n", 8)],
         [weight("router", 8, router_experts), weight("up", bank_experts, 16, 8),
          weight("down", bank_experts, 8, 16)], domains=["com.microsoft"])


moe("experts", 4, 3)

# Operators that nothing here implements.
save("unsupported", [helper.make_node("Frobnicate", ["x"], ["a"], name="first", domain="com.example"),
                     helper.make_node("StringNormalizer", ["s"], ["t"], name="second"),
                     helper.make_node("Relu", ["a"], ["b"], name="fine"),
                     helper.make_node("Frobnicate", ["b"], ["y"], name="third", domain="com.example")],
     [value("x", "n"), value("s", "m", kind=TensorProto.STRING)],
     [value("y", "n"), value("t", "m", kind=TensorProto.STRING)], domains=["com.example"])
save("unsupported-two", [helper.make_node("Frobnicate", ["x"], ["a"], name="first", domain="com.example"),
                         helper.make_node("Relu", ["a"], ["b"], name="fine"),
                         helper.make_node("Mystify", ["b"], ["y"], name="second", domain="com.example")],
     [value("x", "n")], [value("y", "n")], domains=["com.example"])
save("opset", [helper.make_node("Relu", ["x"], ["y"], name="relu")], [value("x", "n")],
     [value("y", "n")], opset=6)
