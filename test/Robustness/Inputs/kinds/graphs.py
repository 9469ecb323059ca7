"""29 to 47: names, order and nesting."""
from .base import *

COND = value("c", kind=BOOL)


@bad(29, "undefined input of a node", INPUT, 'node "one" (Relu)', '"nothing"')
def _(folder):
    write(folder, unary(inputs=("nothing",)))


@bad(30, "cycle of nodes", INPUT, 'node "first" (Add)', "cycle")
def _(folder):
    save(folder, [node("Add", ["x", "b"], "a", "first"), node("Add", ["a", "x"], "b", "second")],
         [value("x", "n")], [value("b", "n")])


@bad(31, "node that reads its own output", INPUT, 'node "one" (Add)', "cycle")
def _(folder):
    write(folder, unary("Add", inputs=("x", "y")))


@bad(32, "value defined by two nodes", INPUT, '"y"', "twice")
def _(folder):
    save(folder, [node("Relu", ["x"], "y"), node("Abs", ["x"], "y")], [value("x", "n")],
         [value("y", "n")])


@legal(33, "nodes out of order (sorted)")
def _(folder):
    save(folder, [node("Relu", ["b"], "y"), node("Neg", ["a"], "b"), node("Abs", ["x"], "a")],
         [value("x", "n")], [value("y", "n")])


@bad(34, "no outputs", INPUT, "no outputs")
def _(folder):
    save(folder, [node("Relu", ["x"], "y")], [value("x", "n")], [])


@bad(35, "undefined output of the graph", INPUT, '"z"', "not defined")
def _(folder):
    save(folder, [node("Relu", ["x"], "y")], [value("x", "n")], [value("z", "n")])


@legal("36a", "empty name of an output that nobody reads")
def _(folder):
    save(folder, [node("TopK", ["x", "k"], ["y", ""])], [value("x", "n", 4)], [value("y", "n", 2)],
         [ints("k", 2)])


@bad("36b", "empty name of the graph's output", INPUT, "output", "no name")
def _(folder):
    save(folder, [node("Relu", ["x"], "y")], [value("x", "n")], [value("", "n")])


@bad("36c", "empty name of the graph's input", INPUT, "input", "no name")
def _(folder):
    save(folder, [node("Relu", ["x"], "y")], [value("x", "n"), value("", "n")], [value("y", "n")])


@bad(37, "two initializers of one name", INPUT, '"w"', "twice")
def _(folder):
    proto = product()
    proto.graph.initializer.append(random("w", 4, 4, seed=1))
    write(folder, proto)


@bad(38, "input of the graph that a node makes too", INPUT, '"x"', "twice")
def _(folder):
    save(folder, [node("Relu", ["z"], "x"), node("Relu", ["x"], "y")],
         [value("x", "n"), value("z", "n")], [value("y", "n")])


@legal(39, "initializer that is an input too (a default value)")
def _(folder):
    proto = product()
    proto.graph.input.append(value("w", 4, 4))
    write(folder, proto)


@legal(40, "names that become equal as symbols")
def _(folder):
    names = ["a.b", "a/b", "a_b", "a b", "a:b", "A_B", "a.b.0", "a\nb", "a\tb", "main", "weights",
             "moert_descriptor"]
    nodes, last = [], "x"
    for i, name in enumerate(names):
        nodes.append(node("Add" if i % 2 else "Mul", [last, name], f"v.{i}", name))
        last = f"v.{i}"
    nodes.append(node("Identity", [last], "y"))
    save(folder, nodes, [value("x", "n", 3)], [value("y", "n", 3)],
         [random(name, 3, seed=i) for i, name in enumerate(names)])


def nested(depth):
    """`depth` Ifs inside each other; as bytes, because protobuf itself writes no more than 100."""
    def leaf(op, level):
        out = f"o.{level}.{op}"
        return helper.make_graph([node(op, ["x", "x"], out, f"{op}.{level}")], out, [], [value(out, "n")])

    def choose(level, then):
        """The If of a level as a node; then: the bytes of a graph."""
        proto = node("If", ["c"], "y" if level == 0 else f"o.{level}", f"If.{level}",
                     else_branch=leaf("Sub", level))
        branch = field(1, b"then_branch") + field(6, then) + b"\xa0\x01\x05"  # type: GRAPH
        return proto.SerializeToString() + field(5, branch)

    inner = leaf("Add", depth).SerializeToString()
    for level in range(depth - 1, 0, -1):
        rest = helper.make_graph([], f"g.{level}", [], [value(f"o.{level}", "n")]).SerializeToString()
        inner = field(1, choose(level, inner)) + rest
    whole = model([], [value("x", "n"), COND], [value("y", "n")])
    return whole.SerializeToString() + field(7, field(1, choose(0, inner)))


@bad("41a", "200 Ifs inside each other", UNSUPPORTED, "nested")
def _(folder):
    write(folder, nested(200))


@legal("41b", "15 Ifs inside each other")
def _(folder):
    write(folder, nested(15))


def loop(inputs, outputs):
    body = helper.make_graph([node("Add", ["v", "v"], "w", "twice"), node("Identity", ["more"], "go", "go")],
                             "body", [value("i", kind=INT64), value("more", kind=BOOL), value("v", 4)][:inputs],
                             [value("go", kind=BOOL), value("w", 4)][:outputs])
    if inputs < 3:
        body.node[0].input[:] = ["x", "x"]
    return model([node("Loop", ["m", "", "x"], "y", "repeat", body=body)], [value("x", 4)],
                 [value("y", 4)], [array("m", 3, np.int64)])


@bad("42a", "Loop whose body has too few inputs", INPUT, 'node "repeat" (Loop)')
def _(folder):
    write(folder, loop(2, 2))


@bad("42b", "Loop whose body has too few outputs", INPUT, 'node "repeat" (Loop)')
def _(folder):
    write(folder, loop(3, 1))


@bad("42c", "Scan whose body has too many inputs", INPUT, 'node "scan" (Scan)')
def _(folder):
    body = helper.make_graph([node("Add", ["s", "e"], "t"), node("Identity", ["t"], "u")], "body",
                             [value("s", 4), value("e", 4), value("extra", 4)], [value("t", 4), value("u", 4)])
    save(folder, [node("Scan", ["z", "x"], ["y", "ys"], "scan", body=body, num_scan_inputs=1)],
         [value("z", 4), value("x", 3, 4)], [value("y", 4), value("ys", 3, 4)])


@legal("43a", "subgraph that reads a value of a later node (sorted)")
def _(folder):
    branches = {f"{k}_branch": helper.make_graph([node(op, ["late", "x"], k, k)], k, [], [value(k, "n")])
                for k, op in (("then", "Add"), ("else", "Sub"))}
    save(folder, [node("If", ["c"], "y", "choose", **branches), node("Neg", ["x"], "late")],
         [value("x", "n"), COND], [value("y", "n")])


@bad("43b", "subgraph that reads the result of its own node", INPUT, 'node "choose" (If)', "cycle")
def _(folder):
    branches = {f"{k}_branch": helper.make_graph([node("Add", ["y", "x"], k, k)], k, [], [value(k, "n")])
                for k in ("then", "else")}
    save(folder, [node("If", ["c"], "y", "choose", **branches)], [value("x", "n"), COND],
         [value("y", "n")])


def function(name, nodes, attributes=()):
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["p"], ["q"], nodes, opsets, list(attributes))


def calls(functions, **attributes):
    return model([node("f", ["x"], "y", "call", domain="local", **attributes)], [value("x", "n", 4)],
                 [value("y", "n", 4)], domains=["local"], functions=functions)


@bad("44a", "function that calls itself", INPUT, "function \"f\" calls itself")
def _(folder):
    write(folder, calls([function("f", [node("f", ["p"], "q", domain="local")])]))


@bad("44b", "overloaded function that calls itself", INPUT, "function \"f\" calls itself")
def _(folder):
    proto = calls([function("f", [node("f", ["p"], "q", domain="local")])])
    proto.functions[0].overload = "o"
    for n in (proto.graph.node[0], proto.functions[0].node[0]):
        n.overload = "o"
    write(folder, proto)


@bad("44c", "functions that call each other 10,000 deep", UNSUPPORTED, "200 deep")
def _(folder):
    chain = [function(f"f{i}" if i else "f", [node(f"f{i + 1}", ["p"], "q", domain="local")])
             for i in range(10_000)]
    write(folder, calls([*chain, function("f10000", [node("Relu", ["p"], "q")])]))


def soft(op, attribute, kind):
    inner = node(op, ["p"], "q", "inner")
    inner.attribute.add(name=attribute, type=kind, ref_attr_name="given")
    return function("f", [inner], ["given"])


@legal("45a", "function's attribute without a value: the operator's default")
def _(folder):
    write(folder, calls([soft("Softmax", "axis", onnx.AttributeProto.INT)]))


@bad("45b", "function's attribute without a value, which the operator needs", INPUT, "(Cast)", "to")
def _(folder):
    write(folder, calls([soft("Cast", "to", onnx.AttributeProto.INT)]))


@legal(46, "chain of 100,000 nodes", verify=None, level=0, arguments=("--emit=moe", "-o", "{out}/m.mlir"))
def _(folder):
    count = 100_000
    nodes = [node("Relu" if i % 2 else "Neg", [f"v{i}"], f"v{i + 1}", f"n{i}") for i in range(count)]
    save(folder, nodes, [value("v0", "n", 4)], [value(f"v{count}", "n", 4)])


@legal(47, "20,000 nodes that nothing reads")
def _(folder):
    nodes = [node("Add", [f"v{i}" if i else "x", "x"], f"v{i + 1}", f"n{i}") for i in range(20_000)]
    save(folder, [*nodes, node("Relu", ["x"], "y")], [value("x", "n", 4)], [value("y", "n", 4)])
