"""67 to 78: weights and shapes as the file states them."""
from .base import *

W = 'initializer "w"'


def spoiled(change, **more):
    """The product whose weight `change` damages."""
    proto = product(random("w", 4, 4))
    change(proto.graph.initializer[0], **more)
    return proto


@bad(67, "too few bytes of data", INPUT, W, "60", "64")
def _(folder):
    def change(w):
        w.raw_data = w.raw_data[:60]
    write(folder, spoiled(change))


@bad(68, "too many bytes of data", INPUT, W, "68", "64")
def _(folder):
    def change(w):
        w.raw_data += bytes(4)
    write(folder, spoiled(change))


@bad("69a", "negative dimension of a weight", INPUT, W, "-4")
def _(folder):
    def change(w):
        w.dims[0] = -4
    write(folder, spoiled(change))


@bad("69b", "negative dimension of an input", INPUT, '"x"', "-4")
def _(folder):
    write(folder, unary(x=value("x", -4)))


@bad("70a", "dimensions of a weight whose product overflows", UNSUPPORTED, W, "2^48")
def _(folder):
    def change(w):
        w.dims[:] = [2**40, 2**40]
    write(folder, spoiled(change))


@bad("70b", "dimensions of an input whose product overflows", UNSUPPORTED, '"x"', "2^48")
def _(folder):
    write(folder, unary(x=value("x", 2**40, 2**40)))


@bad("70c", "result whose size overflows", UNSUPPORTED, 'node "one" (Tile)')
def _(folder):
    write(folder, unary("Tile", inputs=("x", "r"), x=value("x", 4, 4), y=value("y", None, None),
                        weights=[ints("r", 2**40, 2**40)]))


@legal("70d", "TopK over an axis of 2^33", verify=None)
def _(folder):
    save(folder, [node("TopK", ["x", "k"], ["y", ""], "one")], [value("x", "n", 2**33)], [value("y", "n", 2)],
         [ints("k", 2)])


@bad(71, "huge weight without data", INPUT, W, "no data")
def _(folder):
    def change(w):
        w.dims[:] = [2**20, 2**20]
        w.ClearField("raw_data")
    write(folder, spoiled(change))


@bad(72, "element type that does not exist", UNSUPPORTED, W, "77")
def _(folder):
    def change(w):
        w.data_type = 77
    write(folder, spoiled(change))


@bad(73, "raw and typed data at once", INPUT, '"w"', "both")
def _(folder):
    def change(w):
        w.float_data.extend([1.0] * 16)
    write(folder, spoiled(change))


@legal(74, "weight without elements")
def _(folder):
    save(folder, [node("Concat", ["x", "w"], "y", "one", axis=0)], [value("x", "n", 4)],
         [value("y", "m", 4)], [array("w", np.zeros((0, 4)))])


# Symbols are names; only the operators are believed about sizes.
@legal("75a", "one symbol for two sizes, unused", verify=("--dim", "n=3"))
def _(folder):
    save(folder, [node("Relu", ["x"], "y"), node("Relu", ["z"], "w", "two")],
         [value("x", "n", 4), value("z", 4, "n")], [value("y", "n", 4), value("w", 4, "n")])


@bad("75b", "sizes of inputs that contradict each other", INPUT, 'node "one" (Add)')
def _(folder):
    save(folder, [node("Add", ["x", "z"], "y", "one")], [value("x", 3, 4), value("z", 5, 4)],
         [value("y", 3, 4)])


@bad(76, "output declared with another shape than is computed", INPUT, '"y"', "declared")
def _(folder):
    write(folder, unary(x=value("x", 4, 4), y=value("y", 3, 4)))


@bad("76b", "output declared with another element type than is computed", INPUT, "y")
def _(folder):
    write(folder, unary(y=value("y", "n", 4, kind=TensorProto.FLOAT16)))


@legal("76c", "intermediate value declared wrongly (inferred anew)")
def _(folder):
    proto = model([node("Relu", ["x"], "a"), node("Neg", ["a"], "y")], [value("x", "n", 4)],
                  [value("y", "n", 4)])
    proto.graph.value_info.append(value("a", 17, 3, 2))
    write(folder, proto)


@legal(77, "weights that are NaN and infinite")
def _(folder):
    values = np.ones((4, 4))
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -np.inf
    write(folder, product(array("w", values)))


@bad(78, "sparse initializer whose indices are out of range", UNSUPPORTED, "sparse")
def _(folder):
    proto = product()
    del proto.graph.initializer[:]
    sparse = helper.make_sparse_tensor(array("w", [1.0, 2.0]), ints("i", 3, 99), [4, 4])
    proto.graph.sparse_initializer.append(sparse)
    write(folder, proto)
