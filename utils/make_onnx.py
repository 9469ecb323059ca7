#!/usr/bin/env python3
"""Writes a small .onnx file from a text file in ONNX's textual syntax, for tests.

In the text, lines that begin with `#` are left out. Options then turn inputs into weights, move
weights to an external file, change what the file says about them, or damage the result.

example: make_onnx.py model.onnxtxt -o model.onnx --weight w:f32:4x8 --external w=data.bin
         make_onnx.py model.onnxtxt -o bad.onnx --weight w:f32:4x8 --external w=data.bin \\
             --set w.location=../data.bin
"""
import argparse
import pathlib

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, numpy_helper

TYPES = {"f32": TensorProto.FLOAT, "f64": TensorProto.DOUBLE, "f16": TensorProto.FLOAT16,
         "bf16": TensorProto.BFLOAT16, "i8": TensorProto.INT8, "u8": TensorProto.UINT8,
         "i32": TensorProto.INT32, "i64": TensorProto.INT64, "i4": TensorProto.INT4,
         "u4": TensorProto.UINT4, "i1": TensorProto.BOOL}


def parse(path):
    lines = pathlib.Path(path).read_text().splitlines()
    return onnx.parser.parse_model("\n".join(l for l in lines if not l.lstrip().startswith("#")))


def add_weight(model, spec):
    """NAME:TYPE:DIMS[:SEED] becomes an initializer of small multiples of 1/8, as raw data."""
    name, kind, dims, *seed = spec.rsplit(":", 3) if spec.count(":") > 2 else spec.split(":")
    shape = [int(d) for d in dims.split("x")] if dims else []
    random = np.random.default_rng(int(seed[0]) if seed else 0)
    values = random.integers(-8, 8, shape)
    code = TYPES[kind]
    if kind[0] in "fb":
        values = values / 8
    elif kind[0] == "u":
        values = abs(values)
    tensor = onnx.helper.make_tensor(name, code, shape, values.flatten().tolist())
    set_raw(tensor, numpy_helper.to_array(tensor))
    for i, value in enumerate(model.graph.input):
        if value.name == name:
            del model.graph.input[i]
            break
    model.graph.initializer.append(tensor)


def set_raw(tensor, array):
    """Moves typed data to raw_data."""
    raw = numpy_helper.from_array(array, tensor.name)
    if raw.data_type != tensor.data_type:
        raise SystemExit(f"make_onnx.py: {tensor.name}: no raw form for this type")
    tensor.CopyFrom(raw)


def find(model, name):
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return tensor
    raise SystemExit(f"make_onnx.py: no initializer {name}")


def move_out(model, folder, spec):
    """NAME=FILE: appends the weight's data to FILE and leaves a reference."""
    name, file = spec.split("=", 1)
    tensor = find(model, name)
    if not tensor.HasField("raw_data"):
        set_raw(tensor, numpy_helper.to_array(tensor))
    data = tensor.raw_data
    with open(folder / file, "ab") as out:
        out.write(b"\0" * (-out.tell() % 64))
        offset = out.tell()
        out.write(data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", offset), ("length", len(data))):
        tensor.external_data.add(key=key, value=str(value))


def set_entry(model, spec):
    """NAME.KEY=VALUE: changes location, offset, length, dims or type of a weight."""
    left, value = spec.split("=", 1)
    name, key = left.rsplit(".", 1)
    tensor = find(model, name)
    if key == "dims":
        del tensor.dims[:]
        tensor.dims.extend(int(d) for d in value.split("x") if d)
        return
    if key == "type":
        tensor.data_type = int(value)
        return
    kept = [(e.key, e.value) for e in tensor.external_data if e.key != key]
    del tensor.external_data[:]
    for k, v in kept + ([(key, value)] if value else []):
        tensor.external_data.add(key=k, value=v)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="text of the model")
    parser.add_argument("-o", "--output", required=True, type=pathlib.Path)
    parser.add_argument("--weight", action="append", default=[], metavar="NAME:TYPE:DIMS[:SEED]",
                        help="makes the input NAME a weight with seeded values")
    parser.add_argument("--raw", action="store_true", help="stores all weights as raw data")
    parser.add_argument("--external", action="append", default=[], metavar="NAME=FILE",
                        help="moves the weight's data to FILE beside the output")
    parser.add_argument("--set", action="append", default=[], metavar="NAME.KEY=VALUE",
                        help="sets location, offset, length, dims or type of a weight as they are "
                             "written in the file; an empty value removes the entry")
    parser.add_argument("--opset", type=int, help="opset of the default domain, as it is written")
    parser.add_argument("--drop", action="append", default=[], choices=["graph", "opset_import",
                        "ir_version"], help="leaves a part out")
    parser.add_argument("--truncate", type=int, metavar="BYTES",
                        help="keeps that many bytes of the file (negative: drops them)")
    parser.add_argument("--lfs-pointer", metavar="FILE",
                        help="writes a Git LFS pointer to FILE beside the output")
    args = parser.parse_args()
    model = parse(args.input)
    folder = args.output.parent
    folder.mkdir(parents=True, exist_ok=True)
    for spec in args.external:
        (folder / spec.split("=", 1)[1]).unlink(missing_ok=True)
    for spec in args.weight:
        add_weight(model, spec)
    if args.raw:
        for tensor in model.graph.initializer:
            set_raw(tensor, numpy_helper.to_array(tensor))
    for spec in args.external:
        move_out(model, folder, spec)
    for spec in args.set:
        set_entry(model, spec)
    if args.opset is not None:
        for entry in model.opset_import:
            if entry.domain == "":
                entry.version = args.opset
    for part in args.drop:
        model.ClearField(part)
    data = model.SerializeToString()
    args.output.write_bytes(data if args.truncate is None else data[: args.truncate])
    if args.lfs_pointer:
        (folder / args.lfs_pointer).write_text(
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{'0' * 64}\nsize 12345\n")


if __name__ == "__main__":
    main()
