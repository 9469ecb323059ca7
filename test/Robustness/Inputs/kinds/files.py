"""1 to 18: what stands in place of a model file."""
import gzip
import json
import os
import zipfile

from .base import *

NOT_ONNX = "ONNX"


@bad(1, "empty file", INPUT, "empty")
def _(folder):
    write(folder, b"")


@bad(2, "random bytes", INPUT, NOT_ONNX)
def _(folder):
    write(folder, np.random.default_rng(3).bytes(4096))


@bad(3, "truncated file", INPUT, "truncated")
def _(folder):
    data = product().SerializeToString()
    write(folder, data[:len(data) * 2 // 3])


@bad(4, "text file", INPUT, NOT_ONNX)
def _(folder):
    write(folder, b"The quick brown fox jumps over the lazy dog.\n" * 40)


@bad(5, "Git LFS pointer", INPUT, "Git LFS pointer", "git lfs pull")
def _(folder):
    write(folder, b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64
          + b"\nsize 12345\n")


@bad(6, "web page saved as a model", INPUT, "web page")
def _(folder):
    write(folder, b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>")


@bad("7a", "model packed by gzip", INPUT, "gzip")
def _(folder):
    write(folder, gzip.compress(product().SerializeToString()))


@bad("7b", "model in a zip archive", INPUT, "zip archive")
def _(folder):
    with zipfile.ZipFile(folder / "model.onnx", "w") as archive:
        archive.writestr("m.onnx", product().SerializeToString())


@bad("8a", "safetensors file", INPUT, "safetensors")
def _(folder):
    head = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    write(folder, len(head).to_bytes(8, "little") + head + bytes(16))


@bad("8b", "GGUF file", INPUT, "GGUF")
def _(folder):
    write(folder, b"GGUF" + (3).to_bytes(4, "little") + bytes(64))


@bad("8c", "old PyTorch file (a pickle)", INPUT, "pickle")
def _(folder):
    write(folder, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + bytes(64))


@bad(9, "folder", INPUT, "folder")
def _(folder):
    (folder / "model.onnx").mkdir()


@bad(10, "no such file", INPUT, "no such file")
def _(folder):
    pass


# A process of root may read everything unless it gives that up.
@bad(11, "file that may not be read", INPUT, "ermission denied",
     prefix=("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ())
def _(folder):
    write(folder, product()).chmod(0)


@bad("12a", "named pipe that nobody writes to", INPUT, "no regular file")
def _(folder):
    os.mkfifo(folder / "model.onnx")


@bad("12b", "endless device", INPUT, "no regular file")
def _(folder):
    return "/dev/zero"


@legal(13, "file of more than 2 GB", verify=None, arguments=("--emit=moe", "-o", "-"))
def _(folder):
    """2.2 GB of zeros in the file itself, which protobuf cannot read (sparse: takes no disk)."""
    proto = product()
    head = proto.SerializeToString()
    size = 2200 * 10**6 // 8 * 8

    fields = TensorProto(name="big", data_type=TensorProto.UINT8, dims=[size]).SerializeToString()
    tensor = fields + b"\x4a" + varint(size)  # raw_data
    graph = b"\x2a" + varint(len(tensor) + size) + tensor  # GraphProto.initializer
    path = write(folder, head + b"\x3a" + varint(len(graph) + size) + graph)  # ModelProto.graph
    os.truncate(path, path.stat().st_size + size)


@bad(14, "output over the model", USAGE, "overwrite the model", inspect=False,
     arguments=("--emit=moe", "-o", "{model}"))
def _(folder):
    write(folder, product())


@bad("15a", "messages nested more than 100 deep", INPUT, NOT_ONNX)
def _(folder):
    proto = product()
    kind = proto.graph.input[0].type
    for _ in range(150):
        outer = onnx.TypeProto()
        outer.sequence_type.elem_type.CopyFrom(kind)
        kind = outer
    proto.graph.input[0].type.CopyFrom(kind)
    write(folder, proto)


def raw_names(proto, old, new):
    """The serialised model with names of one length replaced by bytes."""
    assert len(old) == len(new)
    return proto.SerializeToString().replace(old, new)


@legal("16a", "names that are not UTF-8")
def _(folder):
    proto = model([node("Relu", ["inputA"], "middle", "firstnode"),
                   node("Add", ["middle", "inputB"], "result", "secondnode")],
                  [value("inputA", "n"), value("inputB", "n")], [value("result", "n")])
    data = proto.SerializeToString()
    for old, new in ((b"inputA", b"input\xff"), (b"inputB", b"input\xfe"), (b"firstnode", b"first\xc3\x28de"),
                     (b"result", b"resul\xe9")):
        data = data.replace(old, new)
    write(folder, data)


@bad("16b", "an operator's name that is not UTF-8", UNSUPPORTED, 'node "one"', "unsupported")
def _(folder):
    write(folder, raw_names(unary("Unknown"), b"Unknown", b"Unk\xff\xfe\x80n"))


@legal("17a", "NUL bytes in names")
def _(folder):
    write(folder, raw_names(unary(name="one.one"), b"one.one", b"one\0one"))


@bad("17b", "NUL byte in an undefined name", INPUT, 'node "one" (Relu)', "no?hing")
def _(folder):
    write(folder, raw_names(unary(inputs=("nothing",)), b"nothing", b"no\0hing"))


@legal("18a", "a name of 1 MB")
def _(folder):
    write(folder, unary(name="n" * 10**6))


@bad("18b", "an undefined name of 1 MB", INPUT, 'node "one" (Relu)', "not defined")
def _(folder):
    write(folder, unary(inputs=("n" * 10**6,)))


@bad("18c", "a bad node with a name of 1 MB", INPUT, "(Relu)", "not defined")
def _(folder):
    write(folder, unary(inputs=("nothing",), name="n" * 10**6))
