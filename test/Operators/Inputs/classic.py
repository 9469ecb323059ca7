"""Writes models of one operator of ai.onnx.ml each: classic.py FOLDER"""
import pathlib
import sys

import numpy as np
from onnx import TensorProto, helper, save

random = np.random.default_rng(5)


def numbers(count):
    return random.normal(size=count).astype(np.float32).tolist()


def write(name, operator, inputs, outputs, **attributes):
    node = helper.make_node(operator, [i[0] for i in inputs], [o[0] for o in outputs],
                            domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph([node], name, [helper.make_tensor_value_info(*i) for i in inputs],
                              [helper.make_tensor_value_info(*o) for o in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)], ir_version=10)
    save(model, pathlib.Path(sys.argv[1]) / f"{name}.onnx")


F32, I64 = TensorProto.FLOAT, TensorProto.INT64
x, y = [("x", F32, ["n", 4])], [("y", F32, ["n", 4])]
write("scaler", "Scaler", x, y, offset=numbers(4), scale=numbers(4))
write("imputer", "Imputer", x, y, imputed_value_floats=numbers(4), replaced_value_float=0.0)
for norm in ("MAX", "L2"):
    write("normalizer-" + norm.lower(), "Normalizer", x, y, norm=norm)
write("labels", "LabelEncoder", [("x", I64, ["n", 3])], [("y", F32, ["n", 3])],
      keys_int64s=[1, 4, 2], values_floats=[0.5, -1.5, 3.0], default_float=9.0)
write("one-hot", "OneHotEncoder", [("x", I64, ["n"])], [("y", F32, ["n", 3])], cats_int64s=[1, 4, 2])
write("linear", "LinearRegressor", x, [("y", F32, ["n", 2])], coefficients=numbers(8),
      intercepts=numbers(2), targets=2)
write("classifier", "LinearClassifier", x, [("y", I64, ["n"]), ("z", F32, ["n", 3])],
      coefficients=numbers(12), intercepts=numbers(3), classlabels_ints=[5, 7, 9],
      post_transform="SOFTMAX", multi_class=1)
for kernel in ("POLY", "RBF"):
    write("svm-" + kernel.lower(), "SVMRegressor", x, [("y", F32, ["n", 1])], kernel_type=kernel,
          kernel_params=[0.5, 0.25, 2.0], n_supports=5, support_vectors=numbers(20),
          coefficients=numbers(5), rho=[0.5])


def nodes():
    """Two trees of five and three nodes."""
    return dict(nodes_treeids=[0, 0, 0, 0, 0, 1, 1, 1], nodes_nodeids=[0, 1, 2, 3, 4, 0, 1, 2],
                nodes_featureids=[0, 1, 0, 0, 0, 3, 0, 0],
                nodes_modes=["BRANCH_LEQ", "BRANCH_LT", "LEAF", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"],
                nodes_values=[0.3, 0, 0, 0, 0, -0.2, 0, 0], nodes_truenodeids=[1, 2, 0, 0, 0, 1, 0, 0],
                nodes_falsenodeids=[4, 3, 0, 0, 0, 2, 0, 0])


def leaves(what, ids, weights):
    return {what + "_treeids": [0, 0, 0, 1, 1], what + "_nodeids": [2, 3, 4, 1, 2],
            what + "_ids": ids, what + "_weights": weights}


for aggregate in ("AVERAGE", "MIN"):
    write("trees-" + aggregate.lower(), "TreeEnsembleRegressor", x, [("y", F32, ["n", 2])], n_targets=2,
          aggregate_function=aggregate, **nodes(), **leaves("target", [0, 1, 0, 1, 0], numbers(5)))
both = [("y", I64, ["n"]), ("z", F32, ["n", 2])]
for post in ("LOGISTIC", "SOFTMAX"):
    write("classes-" + post.lower(), "TreeEnsembleClassifier", x, both[:1] + [("z", F32, ["n", 3])],
          classlabels_int64s=[3, 5, 8], post_transform=post, **nodes(),
          **leaves("class", [0, 1, 2, 1, 0], [0.5, 0.25, 0.1, 0.4, 0.3]))
    write("two-" + post.lower(), "TreeEnsembleClassifier", x, both, classlabels_int64s=[3, 5],
          post_transform=post, **nodes(), **leaves("class", [0] * 5, numbers(5)))
    write("share-" + post.lower(), "TreeEnsembleClassifier", x, both, classlabels_int64s=[3, 5],
          post_transform=post, **nodes(), **leaves("class", [0] * 5, [0.5, 0.25, 0.1, 0.4, 0.3]))
