"""What the lists of bad inputs share: the registry, and builders of small models.

A kind is a function that writes one model into a folder. `@bad` and `@legal` say what must become
of it; check_bad_inputs.py runs them.
"""
import dataclasses
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
INPUT, USAGE, UNSUPPORTED, RESOURCE = 1, 2, 3, 5


@dataclasses.dataclass
class Kind:
    id: str            # number in the checklist, with a letter when a number has several files
    what: str
    code: int          # exit code of `moec compile`
    says: tuple        # texts that each line must contain
    write: object      # folder -> path of the model, or None for folder/model.onnx
    lines: int = 1
    verify: tuple = None   # legal: arguments of `moec verify`; None: compile only
    arguments: tuple = ()  # further arguments of `moec compile`
    inspect: bool = True   # `moec inspect` must say the same
    prefix: tuple = ()     # command in front of moec
    level: int = 2


KINDS = []
MISSING = []  # (number, what): inputs that no part of moec reads yet


def bad(id, what, code, *says, **more):
    """A kind that must be refused: exit code, and texts that stand in its one line."""
    def register(write):
        KINDS.append(Kind(str(id), what, code, says, write, **more))
        return write
    return register


def legal(id, what, verify=(), **more):
    """A kind that must compile, and (unless verify is None) agree with the interpreter."""
    def register(write):
        KINDS.append(Kind(str(id), what, 0, (), write, verify=verify, **more))
        return write
    return register


def value(name, *dims, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, list(dims))


def node(op, inputs, outputs, name=None, **attributes):
    one = isinstance(outputs, str)
    return helper.make_node(op, inputs, [outputs] if one else outputs, name=name or op.lower(),
                            **attributes)


def array(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def ints(name, *values):
    return array(name, values, np.int64)


def random(name, *dims, seed=0):
    rng = np.random.default_rng([seed, *name.encode()])
    return array(name, rng.uniform(-1, 1, dims))


def model(nodes, inputs, outputs, weights=(), opset=20, domains=(), functions=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


def write(folder, proto, name="model.onnx"):
    data = proto if isinstance(proto, bytes) else proto.SerializeToString()
    (folder / name).write_bytes(data)
    return folder / name


def save(folder, *args, **more):
    return write(folder, model(*args, **more))


def product(weight=None):
    """y = x w, a model of one node."""
    weight = weight or random("w", 4, 4)
    return model([node("MatMul", ["x", "w"], "y", "product")], [value("x", "n", 4)],
                 [value("y", "n", 4)], [weight])


def unary(op="Relu", inputs=("x",), name="one", outputs="y", weights=(), x=None, y=None, **attributes):
    """One node between x [n, 4] and y [n, 4]."""
    return model([node(op, list(inputs), outputs, name, **attributes)], [x or value("x", "n", 4)],
                 [y or value("y", "n", 4)], weights)


def external(name, location, dims, offset=None, length=None, more=()):
    """A float tensor of external data; numbers are written as they are given."""
    tensor = TensorProto(name=name, data_type=FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", offset), ("length", length), *more):
        if text is not None:
            tensor.external_data.add(key=key, value=str(text))
    return tensor


def data_file(folder, name="w.bin", count=16):
    path = pathlib.Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(1).uniform(-1, 1, count).astype(np.float32).tobytes())
    return path


def varint(n):
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def field(number, content):
    """A protobuf field that holds bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content
