"""One MoE layer as numbers, its value in numpy, and the ways in which exporters write it as a graph.

Letters: T tokens, E experts, K chosen experts, H hidden size, I inner size of an expert.
"""
import dataclasses

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FAMILIES = ("fused", "loop", "gathered", "sorted", "dense", "mask", "gates")
ROUTERS = ("renorm", "softmax", "first", "sigmoid")


@dataclasses.dataclass
class Layer:
    router: np.ndarray  # [H, E]
    up: np.ndarray      # [E, I, H]
    down: np.ndarray    # [E, H, I]
    gate: np.ndarray = None  # [E, I, H]: silu(gate x) * up x; without it silu(up x)
    bias: np.ndarray = None  # [E], added to the scores that experts are chosen by (sigmoid)
    shift: float = 0.0       # added to all logits
    k: int = 2
    kind: str = "renorm"     # one of ROUTERS; the family "gates" runs all experts under a softmax
    combine: np.ndarray = None  # [E], a factor of each expert's weight

    @property
    def experts(self):
        return self.up.shape[0]


def random_layer(rng, experts=5, hidden=6, inter=4, k=2, kind="renorm", gated=True):
    def numbers(*dims, scale=1.0):
        return rng.uniform(-scale, scale, dims).astype(np.float32)
    return Layer(numbers(hidden, experts, scale=2.0), numbers(experts, inter, hidden),
                 numbers(experts, hidden, inter), numbers(experts, inter, hidden) if gated else None,
                 numbers(experts, scale=0.5) if kind == "sigmoid" else None, k=k, kind=kind)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def scores(layer, x, family):
    """What experts are weighed by and chosen by, [T, E] both."""
    z = x.astype(np.float64) @ layer.router.astype(np.float64) + layer.shift
    weights = sigmoid(z) if layer.kind == "sigmoid" else z if layer.kind == "first" else softmax(z)
    if family == "gates":
        return softmax(z), softmax(z)
    return weights, weights + layer.bias if layer.bias is not None else weights


def margin(layer, x, family):
    """For each token, how far the last chosen score lies above the first that is not chosen."""
    _, by = scores(layer, x, family)
    if family == "gates" or layer.k >= layer.experts:
        return np.full(len(x), np.inf)
    ordered = -np.sort(-by, axis=-1)
    return ordered[:, layer.k - 1] - ordered[:, layer.k]


def value(layer, x, family):
    """The layer in double precision, [T, H]."""
    weights, by = scores(layer, x, family)
    k = layer.experts if family == "gates" else layer.k
    ids = np.argsort(-by, axis=-1, kind="stable")[:, :k]
    w = np.take_along_axis(weights, ids, -1)
    if family != "gates":
        if layer.kind == "first":
            w = softmax(w)
        elif layer.kind in ("renorm", "sigmoid"):
            w = w / w.sum(-1, keepdims=True)
    if layer.combine is not None:
        w = w * layer.combine[ids]
    y = np.zeros((len(x), layer.down.shape[1]))
    for t in range(len(x)):
        for e, weight in zip(ids[t], w[t]):
            h = layer.up[e].astype(np.float64) @ x[t]
            if layer.gate is not None:
                g = layer.gate[e].astype(np.float64) @ x[t]
                h = g * sigmoid(g) * h
            else:
                h = h * sigmoid(h)
            y[t] += weight * (layer.down[e].astype(np.float64) @ h)
    return y


class Graph:
    """Nodes and weights of one model; names are made up in order."""

    def __init__(self):
        self.nodes, self.weights, self.constants = [], [], {}

    def op(self, op, inputs, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}.{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, values, dtype=np.float32):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name

    def ints(self, *values):
        return self.constants.setdefault(values, None) or self.keep(values, np.array(values, np.int64))

    def scalar(self, value):
        return self.constants.setdefault(value, None) or self.keep(value, np.array(value, np.int64))

    def keep(self, key, values):
        self.constants[key] = self.weight(values, np.int64)
        return self.constants[key]

    def model(self, inputs, outputs, opset=20, domains=("com.microsoft",)):
        graph = helper.make_graph(self.nodes, "layers", inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def router(g, layer, x):
    """ids and weights, [T, K]."""
    z = g.op("MatMul", [x, g.weight(layer.router)])
    if layer.shift:
        z = g.op("Add", [z, g.weight(layer.shift)])
    k, last = g.ints(layer.k), g.ints(-1)
    if layer.kind == "first":
        w, ids = g.op("TopK", [z, k], 2)
        w = g.op("Softmax", [w], axis=-1)
    elif layer.kind == "sigmoid":
        s = g.op("Sigmoid", [z])
        _, ids = g.op("TopK", [g.op("Add", [s, g.weight(layer.bias)]), k], 2)
        w = g.op("GatherElements", [s, ids], axis=1)
    else:
        w, ids = g.op("TopK", [g.op("Softmax", [z], axis=-1), k], 2)
    if layer.kind in ("renorm", "sigmoid"):
        w = g.op("Div", [w, g.op("ReduceSum", [w, last])])
    if layer.combine is not None:
        w = g.op("Mul", [w, g.op("Gather", [g.weight(layer.combine), ids])])
    return ids, w


def expert(g, layer, rows, e):
    """Expert e on rows [N, H], with weights of its own."""
    h = g.op("MatMul", [rows, g.weight(layer.up[e].T)])
    lead = g.op("MatMul", [rows, g.weight(layer.gate[e].T)]) if layer.gate is not None else h
    act = g.op("Mul", [lead, g.op("Sigmoid", [lead])])
    if layer.gate is not None:
        act = g.op("Mul", [act, h])
    return g.op("MatMul", [act, g.weight(layer.down[e].T)])


def rows_of(g, values, index):
    return g.op("Gather", [values, index], axis=0)


def loop(g, layer, x):
    """A static loop that adds each expert's rows to the result."""
    ids, w = router(g, layer, x)
    total = g.op("ConstantOfShape", [g.op("Shape", [x])])
    for e in range(layer.experts):
        hits = g.op("NonZero", [g.op("Equal", [ids, g.scalar(e)])])
        token, slot = (g.op("Squeeze", [v, g.ints(0)]) for v in
                       g.op("Split", [hits], 2, axis=0, num_outputs=2))
        place = g.op("Add", [g.op("Mul", [token, g.scalar(layer.k)]), slot])
        weight = rows_of(g, g.op("Reshape", [w, g.ints(-1)]), place)
        y = g.op("Mul", [expert(g, layer, rows_of(g, x, token), e), g.op("Unsqueeze", [weight, g.ints(1)])])
        total = g.op("ScatterND", [total, g.op("Unsqueeze", [token, g.ints(1)]), y], reduction="add")
    return total


def gathered(g, layer, x):
    """Each slot gathers the matrices of its expert."""
    ids, w = router(g, layer, x)
    hidden, k = layer.router.shape[0], layer.k
    tiled = g.op("Expand", [g.op("Unsqueeze", [x, g.ints(1)]), g.ints(1, k, 1)])
    column = g.op("Unsqueeze", [g.op("Reshape", [tiled, g.ints(-1, hidden)]), g.ints(-1)])
    flat = g.op("Reshape", [ids, g.ints(-1)])

    def times(matrices, v):
        return g.op("MatMul", [rows_of(g, g.weight(matrices), flat), v])
    h = times(layer.up, column)
    lead = times(layer.gate, column) if layer.gate is not None else h
    act = g.op("Mul", [lead, g.op("Sigmoid", [lead])])
    if layer.gate is not None:
        act = g.op("Mul", [act, h])
    y = g.op("Reshape", [times(layer.down, act), g.ints(-1, k, hidden)])
    y = g.op("Mul", [y, g.op("Unsqueeze", [w, g.ints(-1)])])
    return g.op("ReduceSum", [y, g.ints(1)], keepdims=0)


def sorted_groups(g, layer, x):
    """Slots sorted by expert; each expert takes its slice."""
    ids, w = router(g, layer, x)
    hidden, k = layer.router.shape[0], layer.k
    flat = g.op("Reshape", [ids, g.ints(-1)])
    count = g.op("Shape", [flat])
    keys, order = g.op("TopK", [flat, count], 2, axis=0, largest=0, sorted=1)
    rows = rows_of(g, x, g.op("Div", [order, g.scalar(k)]))
    ones = g.op("Expand", [g.scalar(1), count])
    counts = g.op("ScatterElements", [g.weight(np.zeros(layer.experts), np.int64), flat, ones], axis=0,
                  reduction="add")
    ends = g.op("CumSum", [counts, g.scalar(0)])
    parts, begin = [], g.ints(0)
    for e in range(layer.experts):
        end = g.op("Slice", [ends, g.ints(e), g.ints(e + 1)])
        parts.append(expert(g, layer, g.op("Slice", [rows, begin, end, g.ints(0)]), e))
        begin = end
    y = g.op("Concat", parts, axis=0) if len(parts) > 1 else parts[0]
    weights = rows_of(g, g.op("Reshape", [w, g.ints(-1)]), order)
    y = g.op("Mul", [y, g.op("Unsqueeze", [weights, g.ints(-1)])])
    positions = g.op("Range", [g.scalar(0), g.op("Squeeze", [count, g.ints(0)]), g.scalar(1)])
    inverse = g.op("ScatterND", [g.op("Expand", [g.scalar(0), count]),
                                 g.op("Unsqueeze", [order, g.ints(-1)]), positions])
    y = g.op("Reshape", [rows_of(g, y, inverse), g.ints(-1, k, hidden)])
    return g.op("ReduceSum", [y, g.ints(1)], keepdims=0)


def dense(g, layer, x):
    """All experts in one batched product, under weights that are zero outside the chosen ones."""
    ids, w = router(g, layer, x)
    shape = g.op("Concat", [g.op("Shape", [x], start=0, end=1), g.ints(layer.experts)], axis=0)
    zeros = g.op("ConstantOfShape", [shape])
    all_weights = g.op("ScatterElements", [zeros, ids, w], axis=1)
    return batched(g, layer, x, all_weights)


def batched(g, layer, x, all_weights):
    """Dense weights [T, E] over experts [E, T, H]."""
    tokens = g.op("Unsqueeze", [x, g.ints(0)])

    def times(v, matrices):
        return g.op("MatMul", [v, g.weight(matrices.transpose(0, 2, 1))])
    h = times(tokens, layer.up)
    lead = times(tokens, layer.gate) if layer.gate is not None else h
    act = g.op("Mul", [lead, g.op("Sigmoid", [lead])])
    if layer.gate is not None:
        act = g.op("Mul", [act, h])
    y = times(act, layer.down)
    w = g.op("Unsqueeze", [g.op("Transpose", [all_weights], perm=[1, 0]), g.ints(-1)])
    return g.op("ReduceSum", [g.op("Mul", [y, w]), g.ints(0)], keepdims=0)


def mask(g, layer, x):
    """Every expert on every token, times the weight of the slots that chose it."""
    ids, w = router(g, layer, x)
    total = None
    for e in range(layer.experts):
        hit = g.op("Cast", [g.op("Equal", [ids, g.scalar(e)])], to=TensorProto.FLOAT)
        weight = g.op("ReduceSum", [g.op("Mul", [hit, w]), g.ints(-1)])
        y = g.op("Mul", [expert(g, layer, x, e), weight])
        total = y if total is None else g.op("Add", [total, y])
    return total


def gates(g, layer, x):
    """All experts under a softmax, as recommender models write them."""
    z = g.op("MatMul", [x, g.weight(layer.router)])
    if layer.shift:
        z = g.op("Add", [z, g.weight(layer.shift)])
    w = g.op("Softmax", [z], axis=-1)
    if layer.combine is not None:
        w = g.op("Mul", [w, g.weight(layer.combine)])
    stacked = g.op("Concat", [g.op("Unsqueeze", [expert(g, layer, x, e), g.ints(1)])
                              for e in range(layer.experts)], axis=1)
    y = g.op("MatMul", [g.op("Unsqueeze", [w, g.ints(1)]), stacked])
    return g.op("Squeeze", [y, g.ints(1)])


def fused(g, layer, x):
    """com.microsoft.MoE."""
    z = g.op("MatMul", [x, g.weight(layer.router)])
    if layer.shift:
        z = g.op("Add", [z, g.weight(layer.shift)])
    down = layer.down
    if layer.combine is not None:  # the node has no factors of its own
        down = down * layer.combine[:, None, None]
    first = layer.gate if layer.gate is not None else layer.up
    inputs = [x, z, g.weight(first), "", g.weight(down)]
    if layer.gate is not None:
        inputs += ["", g.weight(layer.up)]
    return g.op("MoE", inputs, domain="com.microsoft", k=layer.k, activation_type="silu",
                normalize_routing_weights=int(layer.kind == "renorm"))


EMIT = {"fused": fused, "loop": loop, "gathered": gathered, "sorted": sorted_groups, "dense": dense,
        "mask": mask, "gates": gates}


def routers_of(family):
    return {"fused": ("renorm", "softmax"), "gates": ("softmax",)}.get(family, ROUTERS)
