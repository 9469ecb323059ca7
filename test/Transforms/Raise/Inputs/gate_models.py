"""Models of several gates over experts with tokens of their own, and near misses of them; of skills
that a whole sequence has. usage: gate_models.py FOLDER"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(sys.argv[1])
FOLDER.mkdir(parents=True, exist_ok=True)
WIDTH = 8


class Graph:
    def __init__(self, seed):
        self.nodes, self.weights, self.random = [], [], np.random.default_rng(seed)

    def op(self, name, *inputs, **attributes):
        out = f"{name.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(name, inputs, [out], **attributes))
        return out

    def weight(self, *dims):
        values = self.random.standard_normal(dims) / np.sqrt(dims[-1])
        return self.constant(values.astype(np.float32))

    def constant(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def dense(self, x, n=WIDTH, k=WIDTH):
        return self.op("Gemm", x, self.weight(n, k), self.weight(n), transB=1)

    def expert(self, x):
        return self.dense(self.op("Relu", self.dense(x, 12)), WIDTH, 12)

    def gate(self, x, n):
        return self.op("Softmax", self.op("MatMul", x, self.weight(WIDTH, n)), axis=-1)

    def stacked(self, x, experts):
        """Experts side by side, the gate times them."""
        stack = self.op("Concat", *[self.op("Unsqueeze", e, self.ints(1)) for e in experts], axis=1)
        gate = self.op("Unsqueeze", self.gate(x, len(experts)), self.ints(1))
        return self.op("Squeeze", self.op("MatMul", gate, stack), self.ints(1))

    def added(self, x, experts):
        """One term for each expert."""
        gate, total = self.gate(x, len(experts)), None
        for e, y in enumerate(experts):
            column = self.op("Slice", gate, self.ints(e), self.ints(e + 1), self.ints(1))
            term = self.op("Mul", y, column)
            total = self.op("Add", total, term) if total else term
        return total

    def norm(self, x):
        return self.op("LayerNormalization", x, self.weight(WIDTH), axis=-1)

    def save(self, name, outputs, inputs):
        graph = helper.make_graph(
            self.nodes + [helper.make_node("Identity", [v], [f"y{i}"]) for i, v in enumerate(outputs)],
            name, [helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in inputs],
            [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None)
             for i in range(len(outputs))], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
        model.ir_version = 10
        onnx.save(onnx.shape_inference.infer_shapes(model), FOLDER / f"{name}.onnx")


def levels(name, seed, tasks, own, shared, depth, combine, between=lambda g, x: x):
    """Progressive layered extraction: tasks with experts of their own and shared ones, in levels."""
    g = Graph(seed)
    towers = ["x"] * (tasks + 1) # the last is what the shared experts read
    for level in range(depth):
        mine = [[g.expert(towers[t]) for _ in range(own)] for t in range(tasks)]
        common = [g.expert(towers[tasks]) for _ in range(shared)]
        sums = [combine(g, towers[t], mine[t] + common) for t in range(tasks)]
        if level + 1 < depth:
            sums.append(combine(g, towers[tasks], sum(mine, []) + common))
        towers = [between(g, s) for s in sums]
    g.save(name, [g.dense(t, 1) for t in towers[:tasks]], [("x", ["b", WIDTH])])


levels("two", 1, 2, 2, 2, 2, Graph.stacked)
levels("three", 2, 3, 1, 1, 3, Graph.stacked)
levels("sums", 3, 2, 1, 2, 2, Graph.added)
levels("norms", 4, 2, 1, 1, 2, Graph.stacked, Graph.norm)


def near(name, seed, gates, experts):
    """Gates over experts whose tokens no gate explains."""
    g = Graph(seed)
    other = g.norm("x")
    bodies = [g.expert("x" if e < experts - 1 else other) for e in range(experts)]
    g.save(name, [g.stacked("x", bodies) for _ in range(gates)], [("x", ["b", WIDTH])])


near("odd", 5, 1, 4)
near("odd-of-two", 6, 2, 4)


def skills(name, seed, batch, weigh):
    """Experts that a whole sequence has, given as a row of zeros and ones."""
    g = Graph(seed)
    experts = 5
    weights = g.op("Div", "skills", g.op("ReduceSum", "skills", g.ints(-1), keepdims=1))
    tokens = g.op("Unsqueeze", g.op("Reshape", "x", g.ints(-1, WIDTH)), g.ints(0))
    hidden = g.op("Relu", g.op("MatMul", tokens, g.weight(experts, WIDTH, 12)))
    results = g.op("MatMul", hidden, g.weight(experts, 12, WIDTH))
    sizes = g.op("Concat", g.ints(experts), g.op("Shape", "skills", start=0, end=1),
                 g.op("Shape", "x", start=1, end=2), g.ints(-1), axis=0)
    rows = g.op("Reshape", results, sizes)
    g.save(name, [g.op("Add", "x", weigh(g, weights, rows))],
           [("x", ["b", "s", WIDTH]), ("skills", [batch, experts])])


def by_sum(g, weights, rows):
    turned = g.op("Transpose", weights, perm=[1, 0])
    each = g.op("Mul", rows, g.op("Unsqueeze", turned, g.ints(2, 3)))
    return g.op("ReduceSum", each, g.ints(0), keepdims=0)


skills("skills", 7, "b", lambda g, w, r: g.op("Einsum", w, r, equation="be,ebsh->bsh"))
skills("skills-sum", 8, "b", by_sum)
skills("skills-other", 9, "c", lambda g, w, r: g.op("Einsum", w, r, equation="be,ebsh->bsh"))
