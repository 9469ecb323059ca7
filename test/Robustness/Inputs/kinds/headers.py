"""19 to 28: the model around the graph."""
from .base import *


@bad(19, "no graph", INPUT, "no graph")
def _(folder):
    proto = product()
    proto.ClearField("graph")
    write(folder, proto)


@bad(20, "no opset", INPUT, "does not say which version")
def _(folder):
    proto = product()
    proto.ClearField("opset_import")
    write(folder, proto)


@bad(21, "opset of the future", UNSUPPORTED, "opset 99 is unsupported")
def _(folder):
    save_opset(folder, 99)


def save_opset(folder, *versions):
    proto = product()
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid("", v) for v in versions)
    write(folder, proto)


# Newer versions of the format add fields; those that matter here come with an opset.
@legal(22, "format version of the future (read as far as it is known)")
def _(folder):
    proto = product()
    proto.ir_version = 99
    write(folder, proto)


@bad("23a", "opset 0", INPUT, "opset 0")
def _(folder):
    save_opset(folder, 0)


@bad("23b", "negative opset", INPUT, "opset -3")
def _(folder):
    save_opset(folder, -3)


@bad("24a", "one domain imported in two versions", INPUT, "twice", "17", "20")
def _(folder):
    save_opset(folder, 17, 20)


@legal("24b", "one domain imported twice in one version")
def _(folder):
    proto = product()
    proto.opset_import.extend([helper.make_opsetid("ai.onnx", 20)])
    write(folder, proto)


@bad(25, "operators of an unknown domain", UNSUPPORTED, "unsupported", lines=2)
def _(folder):
    save(folder, [node("Frobnicate", ["x"], "a", "first", domain="com.example"),
                  node("Mystify", ["a"], "y", "second", domain="com.example")],
         [value("x", "n")], [value("y", "n")], domains=["com.example"])


@bad(26, "a domain that is used but not imported", INPUT, 'node "first" (Frobnicate)', "com.example")
def _(folder):
    save(folder, [node("Frobnicate", ["x"], "y", "first", domain="com.example")],
         [value("x", "n")], [value("y", "n")])


@legal(27, "training information (ignored)")
def _(folder):
    proto = product()
    info = proto.training_info.add()
    info.algorithm.CopyFrom(helper.make_graph([], "algorithm", [], []))
    info.initialization.CopyFrom(helper.make_graph([], "initialization", [], []))
    write(folder, proto)


@legal(28, "metadata with one key twice (ignored)")
def _(folder):
    proto = product()
    for text in ("a", "b"):
        proto.metadata_props.add(key="author", value=text)
    write(folder, proto)
