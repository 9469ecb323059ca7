"""Writes profiles, files in the safetensors layout, for the scripts beside it."""
import json
import struct

import numpy as np

NAMES = {"float64": "F64", "float32": "F32", "int32": "I32", "uint64": "U64"}


def write_profile(path, layers, tensors, labels=("text",), model="test"):
    """`layers`: a dict each, of what is not the default; `tensors`: by name, as the file has them."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.tobytes()
        header[name] = {"dtype": NAMES[str(tensor.dtype)], "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    layers = [{"router": "", "weight_hash": "", "statistics": {}} | layer for layer in layers]
    header["__metadata__"] = {"format": "moec-profile", "version": "1", "profile": json.dumps(
        {"model": model, "labels": list(labels), "layers": layers})}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def statistics(layer, values):
    """Tensors of a layer's sums over the one label "text"."""
    return {f"{layer}/{name}": np.asarray(value, "<f8")[np.newaxis]
            for name, value in values.items()}
