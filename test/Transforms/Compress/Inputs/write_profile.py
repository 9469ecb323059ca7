#!/usr/bin/env python3
"""Writes the profile that a test spells out.

usage: write_profile.py TEST OUT

TEST has lines `// MEASURED: layer k hidden statistic values`: values are JSON, a list with an entry
for each label, of any shape; the first dimension behind the labels of `count` is the experts. A
line `// LABELS: a b` names the labels.
"""
import json
import math
import struct
import sys

MAXIMA = {"gated_norm_max", "output_max", "output_max_channel"}


def shape_of(values):
    return [len(values)] + shape_of(values[0]) if isinstance(values, list) else []


def flat(values):
    return [n for v in values for n in flat(v)] if isinstance(values, list) else [float(values)]


def main():
    labels, layers, tensors = ["text"], {}, []
    for line in open(sys.argv[1]):
        if line.startswith("// LABELS: "):
            labels = line.split()[2:]
        if not line.startswith("// MEASURED: "):
            continue
        name, k, hidden, statistic, values = line.split(maxsplit=2)[2].split(maxsplit=4)
        values = json.loads(values)
        layer = layers.setdefault(name, {"name": name, "experts": 0, "k": int(k), "router": "",
                                         "hidden": int(hidden), "weight_hash": "",
                                         "statistics": {}})
        layer["statistics"][statistic] = "max" if statistic in MAXIMA else "sum"
        if statistic == "count":
            layer["experts"] = len(values[0])
        tensors.append((f"{name}/{statistic}", shape_of(values), flat(values)))
    head = {"model": "test", "labels": labels, "layers": list(layers.values())}
    entries = {"__metadata__": {"format": "moec-profile", "version": "1",
                                "profile": json.dumps(head)}}
    data = b""
    for name, shape, values in tensors:
        assert math.prod(shape) == len(values), name
        start = len(data)
        data += struct.pack(f"<{len(values)}d", *values)
        entries[name] = {"dtype": "F64", "shape": shape, "data_offsets": [start, len(data)]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    with open(sys.argv[2], "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


main()
