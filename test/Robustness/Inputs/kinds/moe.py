"""101 to 128: the layers that moec is for."""
import dataclasses

import layers as L

from .base import *

ONE = 'node "one" (MoE)'


def moe(experts=4, k=2, router_experts=None, up=(16, 8), down=(8, 16), down_experts=None, **attributes):
    """com.microsoft.MoE of hidden size 8 and inner size 16 whose parts may not fit."""
    e = experts
    inputs = ["x", "logits", "up", "", "down"]
    weights = [random("router", 8, router_experts or e), random("up", e, *up)]
    if down is None:
        inputs[4:] = []
    else:
        weights.append(random("down", down_experts or e, *down))
    nodes = [node("MatMul", ["x", "router"], "logits", "router"),
             node("MoE", inputs, "y", "one", domain="com.microsoft", k=k,
                  **{"activation_type": "silu", **attributes})]
    return model(nodes, [value("x", "n", 8)], [value("y", "n", 8)], weights, domains=["com.microsoft"])


def layer_model(family, layer, edit=None):
    g = L.Graph()
    y = L.EMIT[family](g, layer, "x")
    g.op("Identity", [y])
    g.nodes[-1].output[0] = "y"
    if edit:
        edit(g)
    hidden = layer.router.shape[0]
    return g.model([value("x", "n", hidden)], [value("y", "n", layer.down.shape[1])])


def layer(seed=0, **more):
    return L.random_layer(np.random.default_rng(seed), **more)


@bad(101, "MoE: more chosen experts than there are", INPUT, ONE, "5", "4")
def _(folder):
    write(folder, moe(k=5))


@bad(102, "MoE: no chosen experts", INPUT, ONE, "k = 0")
def _(folder):
    write(folder, moe(k=0))


@bad(103, "MoE: less than no chosen experts", INPUT, ONE, "k = -1")
def _(folder):
    write(folder, moe(k=-1))


@bad(104, "MoE: the router has other experts than the weights", INPUT, ONE, "4", "3")
def _(folder):
    write(folder, moe(experts=3, router_experts=4))


@bad(105, "MoE: first matrices that do not fit the tokens", INPUT, ONE)
def _(folder):
    write(folder, moe(up=(16, 9)))


@bad("106a", "MoE: second matrices of other experts", INPUT, ONE, "4", "3")
def _(folder):
    write(folder, moe(down_experts=3))


@bad("106b", "MoE: second matrices of another inner size", INPUT, ONE)
def _(folder):
    write(folder, moe(down=(8, 17)))


@bad(107, "MoE: unknown activation", INPUT, ONE, "mishmash")
def _(folder):
    write(folder, moe(activation_type="mishmash"))


@bad(108, "MoE: no second matrices", INPUT, ONE)
def _(folder):
    write(folder, moe(down=None))


@bad(109, "MoE: no experts", INPUT, ONE)
def _(folder):
    proto = moe()
    for w in proto.graph.initializer:
        dims = [8, 0] if w.name == "router" else [0, *w.dims[1:]]
        w.CopyFrom(array(w.name, np.zeros(dims)))
    write(folder, proto)


@legal(110, "one expert, chosen always")
def _(folder):
    write(folder, moe(experts=1, k=1))


@legal(111, "inner size equal to the hidden size")
def _(folder):
    write(folder, layer_model("gathered", layer(hidden=6, inter=6)))


@legal(112, "no tokens", verify=("--dim", "n=0"))
def _(folder):
    write(folder, layer_model("loop", layer()))


def resized(family):
    """Experts of different inner sizes, which only a loop can hold."""
    parts = layer(experts=3)
    full = L.EMIT[family]

    g = L.Graph()
    ragged = dataclasses.replace(parts, up=[parts.up[0], parts.up[1][:2], parts.up[2][:3]],
                                 gate=[parts.gate[0], parts.gate[1][:2], parts.gate[2][:3]],
                                 down=[parts.down[0], parts.down[1][:, :2], parts.down[2][:, :3]])
    ragged.__class__ = type("Ragged", (L.Layer,), {"experts": 3})
    y = full(g, ragged, "x")
    return g.model([value("x", "n", 6)], [value(y, "n", 6)])


@legal(113, "experts of different inner sizes")
def _(folder):
    write(folder, resized("loop"))


@legal(114, "two experts with one initializer")
def _(folder):
    def tie(g):
        names = [n.input[1] for n in g.nodes if n.op_type == "MatMul" and n.input[1].startswith("w")]
        first = names[1:4]  # router, then three products for each expert
        swap = dict(zip(names[7:10], first))
        for n in g.nodes:
            n.input[:] = [swap.get(i, i) for i in n.input]
    write(folder, layer_model("loop", layer(), tie))


def shared(gated):
    g = L.Graph()
    parts = layer()
    y = L.loop(g, parts, "x")
    own = L.expert(g, layer(seed=1, experts=1), "x", 0)
    if gated:
        weight = g.op("Sigmoid", [g.op("MatMul", ["x", g.weight(np.ones((6, 1)))])])
        own = g.op("Mul", [own, weight])
    y = g.op("Add", [y, own])
    return g.model([value("x", "n", 6)], [value(y, "n", 6)])


@legal("115a", "shared expert")
def _(folder):
    write(folder, shared(False))


@legal("115b", "shared expert with a gate of its own")
def _(folder):
    write(folder, shared(True))


@legal(116, "router with more columns than there are experts")
def _(folder):
    def lose(g):  # the last expert's part of the sum
        last = [n for n in g.nodes if n.op_type == "ScatterND"][-1]
        g.nodes[-1].input[0] = last.input[0]
        g.nodes.remove(last)
    write(folder, layer_model("loop", layer(), lose))


@legal(117, "experts' matrices that are computed when the model runs")
def _(folder):
    g = L.Graph()
    parts = layer()
    ids, w = L.router(g, parts, "x")
    total = None
    for e in range(parts.experts):
        up = g.op("Mul", [g.weight(parts.up[e].T), "factor"])
        y = g.op("MatMul", [g.op("Relu", [g.op("MatMul", ["x", up])]), g.weight(parts.down[e].T)])
        hit = g.op("Cast", [g.op("Equal", [ids, g.scalar(e)])], to=FLOAT)
        y = g.op("Mul", [y, g.op("ReduceSum", [g.op("Mul", [hit, w]), g.ints(-1)])])
        total = y if total is None else g.op("Add", [total, y])
    write(folder, g.model([value("x", "n", 6), value("factor", 1)], [value(total, "n", 6)]))


@legal(118, "experts that two layers use")
def _(folder):
    g = L.Graph()
    parts = layer()
    kept = {}
    weight = g.weight
    def once(values, dtype=np.float32):
        key = (np.asarray(values).tobytes(), np.asarray(values).shape)
        return kept.setdefault(key, None) or kept.update({key: weight(values, dtype)}) or kept[key]
    g.weight = once
    y = L.gathered(g, dataclasses.replace(layer(seed=1), up=parts.up, gate=parts.gate, down=parts.down),
                   L.gathered(g, parts, "x"))
    write(folder, g.model([value("x", "n", 6)], [value(y, "n", 6)]))


@legal("119a", "top-k with k from an input", verify=None)
def _(folder):
    def given(g):
        for n in g.nodes:
            if n.op_type == "TopK":
                n.input[1] = "k"
    proto = layer_model("mask", layer(), given)
    proto.graph.input.append(value("k", 1, kind=INT64))
    write(folder, proto)


@legal("119b", "top-2 as two ArgMax")
def _(folder):
    g = L.Graph()
    parts = layer()
    p = g.op("Softmax", [g.op("MatMul", ["x", g.weight(parts.router)])], axis=-1)
    total = None
    for _ in range(2):
        best = g.op("ArgMax", [p], axis=-1, keepdims=1)
        w = g.op("GatherElements", [p, best], axis=1)
        hit = g.op("Equal", [best, g.weight(np.arange(parts.experts), np.int64)])
        p = g.op("Where", [hit, g.weight(-np.inf), p])
        for e in range(parts.experts):
            chosen = g.op("Cast", [g.op("Equal", [best, g.scalar(e)])], to=FLOAT)
            y = g.op("Mul", [L.expert(g, parts, "x", e), g.op("Mul", [chosen, w])])
            total = y if total is None else g.op("Add", [total, y])
    write(folder, g.model([value("x", "n", 6)], [value(total, "n", 6)]))


@legal(120, "tokens beyond a capacity are dropped")
def _(folder):
    g = L.Graph()
    parts = layer()
    p = g.op("Softmax", [g.op("MatMul", ["x", g.weight(parts.router)])], axis=-1)
    best = g.op("ArgMax", [p], axis=-1, keepdims=0)
    hot = g.op("OneHot", [best, g.scalar(parts.experts), g.weight([0, 1], np.float32)], axis=-1)
    place = g.op("Mul", [g.op("CumSum", [hot, g.scalar(0)]), hot])
    kept = g.op("Mul", [hot, g.op("Cast", [g.op("LessOrEqual", [place, g.weight(2.0)])], to=FLOAT)])
    y = L.batched(g, parts, "x", g.op("Mul", [kept, g.op("ReduceMax", [p, g.ints(-1)])]))
    write(folder, g.model([value("x", "n", 6)], [value(y, "n", 6)]))


for _letter, _kind in zip("abcd", L.ROUTERS):
    @legal(f"121{_letter}" if _kind != "sigmoid" else 122,
           f"router \"{_kind}\" (must not be taken for another)")
    def _(folder, kind=_kind):
        write(folder, layer_model("gathered", layer(kind=kind)))


@bad(123, "groups that do not divide the experts", INPUT, '(Reshape)')
def _(folder):
    g = L.Graph()
    parts = layer(experts=5)
    s = g.op("Sigmoid", [g.op("MatMul", ["x", g.weight(parts.router)])])
    y = g.op("ReduceMax", [g.op("Reshape", [s, g.ints(3, 2, 2)]), g.ints(-1)])
    write(folder, g.model([value("x", 3, 6)], [value(y, None, None, None)]))


def quantised(scales=(4, 16), up=(4, 16, 4), block=None, bits=4):
    """com.microsoft.QMoE, hidden size 8 and inner size 16."""
    weights = [random("router", 8, 4), array("up", np.full(up, 0x39), np.uint8),
               random("ups", *scales), array("down", np.full((4, 8, 8), 0x57), np.uint8), random("downs", 4, 8)]
    more = {"block_size": block} if block else {}
    nodes = [node("MatMul", ["x", "router"], "logits", "router"),
             node("QMoE", ["x", "logits", "up", "ups", "", "down", "downs"], "y", "one", domain="com.microsoft",
                  k=2, activation_type="silu", expert_weight_bits=bits, weights_prepacked=0, **more)]
    return model(nodes, [value("x", "n", 8)], [value("y", "n", 8)], weights, domains=["com.microsoft"])


@legal("124a", "quantised experts")
def _(folder):
    write(folder, quantised())


@bad("124b", "quantised experts: scales of another shape", INPUT, 'node "one" (QMoE)')
def _(folder):
    write(folder, quantised(scales=(4, 17)))


@bad("124c", "quantised experts: a row that is no whole number of blocks", INPUT, 'node "one" (QMoE)')
def _(folder):
    write(folder, quantised(block=32))


@bad("124d", "quantised experts: weights of another number of bits", INPUT, 'node "one" (QMoE)')
def _(folder):
    write(folder, quantised(bits=8))


@bad("124e", "quantised matrix: scales of another number", INPUT, 'node "one" (MatMulNBits)')
def _(folder):
    save(folder, [node("MatMulNBits", ["x", "w", "s"], "y", "one", domain="com.microsoft", K=32, N=8, bits=4,
                       block_size=16)], [value("x", "n", 32)], [value("y", "n", 8)],
         [array("w", np.full((8, 2, 8), 0x39), np.uint8), random("s", 17)], domains=["com.microsoft"])


@bad("124f", "quantised matrix: a block larger than any size", INPUT, 'node "one" (MatMulNBits)')
def _(folder):
    save(folder, [node("MatMulNBits", ["x", "w", "s"], "y", "one", domain="com.microsoft", K=32, N=8, bits=4,
                       block_size=2**63 - 1)], [value("x", "n", 32)], [value("y", "n", 8)],
         [array("w", np.full((8, 1, 16), 0x39), np.uint8), random("s", 17)], domains=["com.microsoft"])


for _letter, _fusion in zip("ab", (1, 2)):
    @legal(f"125{_letter}", f"swiglu with {'interleaved rows' if _fusion == 1 else 'two blocks of rows'}")
    def _(folder, fusion=_fusion):
        write(folder, moe(up=(32, 8), activation_type="swiglu", swiglu_fusion=fusion))


MISSING += [(126, "placement plan that names an unknown expert or device"),
            (127, "merge map that is no partition"), (128, "routing profile of another model")]
