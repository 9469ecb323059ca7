#!/usr/bin/env python3
"""Writes the profile that a test spells out.

usage: write_profile.py TEST OUT

TEST has lines `// MEASURED: layer k hidden statistic values`: values are JSON, a list with an entry
for each label, of any shape; the first dimension behind the labels of `count` is the experts. A
line `// LABELS: a b` names the labels.
"""
import json
import sys

import numpy as np

from profile_file import write_profile

MAXIMA = {"gated_norm_max", "output_max", "output_max_channel"}


def main():
    labels, layers, tensors = ["text"], {}, {}
    for line in open(sys.argv[1]):
        if line.startswith("// LABELS: "):
            labels = line.split()[2:]
        if not line.startswith("// MEASURED: "):
            continue
        name, k, hidden, statistic, values = line.split(maxsplit=2)[2].split(maxsplit=4)
        values = json.loads(values)
        layer = layers.setdefault(name, {"name": name, "experts": 0, "k": int(k),
                                         "hidden": int(hidden), "statistics": {}})
        layer["statistics"][statistic] = "max" if statistic in MAXIMA else "sum"
        if statistic == "count":
            layer["experts"] = len(values[0])
        tensors[f"{name}/{statistic}"] = np.array(values, "<f8")
    write_profile(sys.argv[2], layers.values(), tensors, labels)


main()
