"""48 to 66: single nodes."""
from .base import *

ONE = 'node "one" '


@bad(48, "unknown operator", UNSUPPORTED, ONE + "(Frobnicate)", "unsupported")
def _(folder):
    write(folder, unary("Frobnicate"))


@bad(49, "required attribute missing", INPUT, ONE + "(Cast)", "to")
def _(folder):
    write(folder, unary("Cast"))


@bad(50, "attribute of a wrong type", INPUT, ONE + "(Softmax)", "axis")
def _(folder):
    write(folder, unary("Softmax", axis=1.5))


@bad(51, "attribute that the operator does not have", INPUT, ONE + "(Softmax)", "axes")
def _(folder):
    write(folder, unary("Softmax", axes=1))


@bad("52a", "axis out of range", INPUT, ONE + "(Softmax)", "axis")
def _(folder):
    write(folder, unary("Softmax", axis=5))


@bad("52b", "axis out of range in a constant", INPUT, ONE + "(ReduceSum)", "ax")
def _(folder):
    write(folder, unary("ReduceSum", inputs=("x", "axes"), weights=[ints("axes", 7)]))


@bad("53a", "too many inputs", INPUT, ONE + "(Relu)", "input size 3")
def _(folder):
    write(folder, unary(inputs=("x", "x", "x")))


@bad("53b", "too few inputs", INPUT, ONE + "(Add)", "input size 1")
def _(folder):
    write(folder, unary("Add"))


@bad("53c", "too many outputs", INPUT, ONE + "(Relu)", "output size 2")
def _(folder):
    write(folder, unary(outputs=["y", "z"]))


@bad(54, "empty name of a required input", INPUT, ONE + "(Add)")
def _(folder):
    write(folder, unary("Add", inputs=("x", "")))


def topk(k):
    return model([node("TopK", ["x", "k"], ["v", "i"], "one")], [value("x", "n", 4)],
                 [value("v", "n", "k"), value("i", "n", "k", kind=INT64)], [ints("k", k)])


@bad(55, "TopK of more than there is", INPUT, ONE + "(TopK)", "9", "4")
def _(folder):
    write(folder, topk(9))


@bad(56, "TopK of less than nothing", INPUT, ONE + "(TopK)", "-1")
def _(folder):
    write(folder, topk(-1))


@legal(57, "TopK with k from an input", verify=None)
def _(folder):
    save(folder, [node("TopK", ["x", "k"], ["y", "i"], "one")], [value("x", "n", 4), value("k", 1, kind=INT64)],
         [value("y", "n", "k")])


@bad(58, "Gather with a constant index out of range", INPUT, ONE + "(Gather)", "4")
def _(folder):
    write(folder, unary("Gather", inputs=("x", "i"), weights=[ints("i", 0, 1, 2, 4)], axis=1))


@bad(59, "ranks that MatMul does not take", INPUT, ONE + "(MatMul)")
def _(folder):
    write(folder, unary("MatMul", inputs=("x", "s"), weights=[array("s", 1.0)]))


@bad(60, "element types that differ", INPUT, ONE + "(Add)", "type")
def _(folder):
    write(folder, unary("Add", inputs=("x", "w"), weights=[array("w", np.ones(4), np.float64)]))


@bad("61a", "Reshape with two -1", INPUT, ONE + "(Reshape)", "-1")
def _(folder):
    write(folder, unary("Reshape", inputs=("x", "s"), weights=[ints("s", -1, -1)]))


@bad("61b", "Reshape to another number of elements", INPUT, ONE + "(Reshape)")
def _(folder):
    write(folder, unary("Reshape", inputs=("x", "s"), x=value("x", 3, 4), y=value("y", 5, 5),
                        weights=[ints("s", 5, 5)]))


@bad(62, "sizes of Split that do not sum up", INPUT, ONE + "(Split)")
def _(folder):
    save(folder, [node("Split", ["x", "s"], ["y", "z"], "one", axis=1)], [value("x", "n", 4)],
         [value("y", "n", 1), value("z", "n", 2)], [ints("s", 1, 2)])


@bad("63a", "shape that divides constants by zero", INPUT, '"one" (Div)', "zero")
def _(folder):
    save(folder, [node("Div", ["a", "b"], "s", "one"), node("Reshape", ["x", "s"], "y", "two")],
         [value("x", "n", 4)], [value("y", None, None)], [ints("a", 8, 4), ints("b", 0, 1)])


@bad("63b", "shape that takes constants modulo zero", INPUT, '"one" (Mod)', "zero")
def _(folder):
    save(folder, [node("Mod", ["a", "b"], "s", "one"), node("Reshape", ["x", "s"], "y", "two")],
         [value("x", "n", 4)], [value("y", None, None)], [ints("a", 8, 4), ints("b", 0, 1)])


@bad("64a", "strings", UNSUPPORTED, "STRING", lines=2)
def _(folder):
    save(folder, [node("Identity", ["x"], "y", "one")], [value("x", "n", kind=STRING)],
         [value("y", "n", kind=STRING)])


@bad("64b", "complex numbers", UNSUPPORTED, "unsupported")
def _(folder):
    kind = TensorProto.COMPLEX64
    save(folder, [node("Add", ["x", "x"], "y", "one")], [value("x", "n", kind=kind)],
         [value("y", "n", kind=kind)])


def typed(make, what):
    inner = helper.make_tensor_type_proto(FLOAT, ["n"])
    info = helper.make_value_info("x", make(inner))
    return model([node(what, ["x"], "y", "one")], [info], [value("y", None)])


@bad("64c", "optional", UNSUPPORTED, "optional")
def _(folder):
    write(folder, typed(helper.make_optional_type_proto, "OptionalGetElement"))


@bad("64d", "sequence", UNSUPPORTED, "sequence")
def _(folder):
    proto = typed(helper.make_sequence_type_proto, "SequenceLength")
    write(folder, proto)


@bad("64e", "map", UNSUPPORTED, "map")
def _(folder):
    def make(inner):
        return helper.make_map_type_proto(INT64, inner)
    write(folder, typed(make, "Identity"))


@bad("64f", "sparse tensor as input", UNSUPPORTED, "sparse")
def _(folder):
    write(folder, typed(lambda _: helper.make_sparse_tensor_type_proto(FLOAT, ["n"]), "Identity"))


@bad("64g", "sparse constant", UNSUPPORTED, "sparse")
def _(folder):
    sparse = helper.make_sparse_tensor(array("v", [1.0]), ints("i", 2), [4])
    save(folder, [helper.make_node("Constant", [], ["w"], name="one", sparse_value=sparse),
                  node("Add", ["x", "w"], "y")], [value("x", "n", 4)], [value("y", "n", 4)])


def small_type(kind):
    tensor = helper.make_tensor("w", kind, [4], [0, 1, 1, 0])
    return model([node("Cast", ["w"], "f", "one", to=FLOAT), node("Add", ["x", "f"], "y")],
                 [value("x", "n", 4)], [value("y", "n", 4)], [tensor], opset=25)


for _letter, _kind in zip("abcdef", (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT8E4M3FN,
                                     TensorProto.FLOAT8E5M2, TensorProto.FLOAT4E2M1, TensorProto.INT2)):
    @legal(f"65{_letter}", f"weight of type {TensorProto.DataType.Name(_kind)} behind a Cast")
    def _(folder, kind=_kind):
        write(folder, small_type(kind))


@bad("66b", "ConstantOfShape of a negative size", INPUT, ONE + "(ConstantOfShape)", "negative")
def _(folder):
    zero = helper.make_tensor("value", INT64, [1], [7])
    save(folder, [node("ConstantOfShape", ["s"], "y", "one", value=zero)], [], [value("y", None, kind=INT64)],
         [ints("s", -3)])


@legal("66a", "ConstantOfShape without a value")
def _(folder):
    save(folder, [node("Shape", ["x"], "s"), node("ConstantOfShape", ["s"], "z", "one"),
                  node("Add", ["x", "z"], "y")], [value("x", "n", 4)], [value("y", "n", 4)])
