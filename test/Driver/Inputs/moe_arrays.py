"""usage: moe_arrays.py FOLDER

Writes a model that is no language model, with two inputs and three outputs, and data for it:

    moe.onnx       y = MoE(x) + c, z = the mean of y's rows, n: their numbers (no floats)
    data/          ten sets of inputs in ONNX's test layout; eval/: three others
    x.npy, c.npy   arrays of one run; wide.npy: one of another width; nan.npy: no numbers; none.npy: empty

and a language model that takes more than tokens, and texts:

    text.onnx      token_type_ids, input_ids, attention_mask and position_ids; odd.onnx: pixels besides
    texts/a.npy    token ids

There are 8 experts of which each token takes 2. The router never chooses experts 2 and 5.
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EXPERTS, HIDDEN, INTER = 8, 16, 12
folder = pathlib.Path(sys.argv[1])
random = np.random.default_rng(1)


def weight(name, *shape):
    return numpy_helper.from_array((0.5 * random.standard_normal(shape)).astype(np.float32), name)


def value(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


bias = np.zeros(EXPERTS, np.float32)
bias[[2, 5]] = -1e4
folder.mkdir(parents=True, exist_ok=True)
layer = [helper.make_node("MatMul", ["x", "router"], ["scores"]),
         helper.make_node("Add", ["scores", "bias"], ["logits"]),
         helper.make_node("MoE", ["x", "logits", "fc1", "", "fc2"], ["experts"], domain="com.microsoft", k=2,
                          activation_type="silu", normalize_routing_weights=1)]
weights = [weight("router", HIDDEN, EXPERTS), numpy_helper.from_array(bias, "bias"),
           weight("fc1", EXPERTS, INTER, HIDDEN), weight("fc2", EXPERTS, HIDDEN, INTER)]


def save(name, nodes, inputs, outputs, initializers):
    graph = helper.make_graph(nodes, "moe", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17),
                                                    helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 8
    onnx.save(model, folder / name)


save("moe.onnx",
     layer + [helper.make_node("Add", ["experts", "c"], ["y"]),
              helper.make_node("ReduceMean", ["y"], ["z"], axes=[1], keepdims=0),
              helper.make_node("Shape", ["y"], ["n"])],
     [value("x", "T", HIDDEN), value("c", "T", HIDDEN)],
     [value("y", "T", HIDDEN), value("z", "T"), value("n", 2, kind=TensorProto.INT64)], weights)

VOCABULARY, LENGTH = 40, 32
texts = [value(name, "batch", "sequence", kind=TensorProto.INT64)
         for name in ("token_type_ids", "input_ids", "attention_mask", "position_ids")]
tables = [weight("tokens", VOCABULARY, HIDDEN), weight("positions", LENGTH, HIDDEN), weight("types", 2, HIDDEN),
          weight("head", HIDDEN, VOCABULARY), numpy_helper.from_array(np.array([-1, HIDDEN]), "rows"),
          numpy_helper.from_array(np.array([2]), "last")]
text = [helper.make_node("Gather", ["tokens", "input_ids"], ["a"]),
        helper.make_node("Gather", ["positions", "position_ids"], ["b"]),
        helper.make_node("Gather", ["types", "token_type_ids"], ["t"]),
        helper.make_node("Sum", ["a", "b", "t"], ["h"]),
        helper.make_node("Cast", ["attention_mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["m", "last"], ["m3"]),
        helper.make_node("Mul", ["h", "m3"], ["masked"]),
        helper.make_node("Reshape", ["masked", "rows"], ["x"]),
        *layer,
        helper.make_node("Shape", ["masked"], ["shape"]),
        helper.make_node("Reshape", ["experts", "shape"], ["e3"]),
        helper.make_node("Add", ["e3", "masked"], ["r"]),
        helper.make_node("MatMul", ["r", "head"], ["out"])]
logits = [value("out", "batch", "sequence", VOCABULARY)]
save("text.onnx", text, texts, logits, weights + tables)
save("odd.onnx", text + [helper.make_node("ReduceSum", ["pixels"], ["sum"], keepdims=0),
                         helper.make_node("Add", ["out", "sum"], ["odd"])],
     texts + [value("pixels", 3)], [value("odd", "batch", "sequence", VOCABULARY)], weights + tables)
(folder / "texts").mkdir(exist_ok=True)
np.save(folder / "texts" / "a.npy", random.integers(0, VOCABULARY, 16 * 12 + 1))


def arrays(rows):
    return {"x": random.standard_normal((rows, HIDDEN)).astype(np.float32),
            "c": 0.1 * random.standard_normal((rows, HIDDEN)).astype(np.float32)}


for name, sets in (("data", 10), ("eval", 3)):
    for i in range(sets):
        path = folder / name / f"test_data_set_{i}"
        path.mkdir(parents=True, exist_ok=True)
        for j, (key, array) in enumerate(arrays(20 + i).items()):
            (path / f"input_{j}.pb").write_bytes(numpy_helper.from_array(array, key).SerializeToString())
for key, array in arrays(64).items():
    np.save(folder / f"{key}.npy", array)
np.save(folder / "wide.npy", np.zeros((64, HIDDEN + 1), np.float32))
np.save(folder / "nan.npy", np.full((64, HIDDEN), np.nan, np.float32))
np.save(folder / "none.npy", np.zeros((0, HIDDEN), np.float32))
