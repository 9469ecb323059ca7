"""usage: check_profile.py PROFILE MODEL_FOLDER WINDOWS

Compares a profile of moe-lm's calibration texts with the experts that its authors' run chose
(routing/<label>.calibration.npy) and, over all windows, with routing.json.
"""
import json
import pathlib
import sys

import numpy as np

path, folder, windows = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
data = open(path, "rb").read()
size = int.from_bytes(data[:8], "little")
header = json.loads(data[8:8 + size])
types = {"F64": np.float64, "F32": np.float32, "I32": np.int32, "U64": np.uint64}


def tensor(name):
    entry = header[name]
    begin, end = entry["data_offsets"]
    return np.frombuffer(data[8 + size:][begin:end], types[entry["dtype"]]).reshape(entry["shape"])


layers = sorted({name.rsplit("/", 1)[0] for name in header if name.endswith("/count")},
                key=lambda name: [int(part) if part.isdigit() else part for part in name.split(".")])
labels = sorted(p.name.split(".")[0] for p in (folder / "routing").glob("*.npy"))
authors = json.loads((folder / "routing.json").read_text())
tokens = 256 * windows
worst = 0
for number, layer in enumerate(layers):
    together = np.zeros((32, 32))
    for i, label in enumerate(labels):
        ids = np.load(folder / "routing" / f"{label}.calibration.npy")[number, :tokens].astype(int)
        counts = np.bincount(ids.ravel(), minlength=32)
        chosen = np.zeros((tokens, 32))
        np.put_along_axis(chosen, ids, 1, 1)
        together = chosen.T @ chosen
        got, pairs = tensor(layer + "/count")[i], tensor(layer + "/coactivation")[i]
        # Near ties fall differently in different arithmetic.
        worst = max(worst, np.abs(got - counts).max(), np.abs(pairs - together).max())
        assert tensor(layer + "/tokens")[i] == tokens and tensor(layer + "/sequences")[i] == windows
        assert got.sum() == 4 * tokens == pairs.trace()
        share = np.stack([np.bincount(part.ravel(), minlength=32) for part in ids.reshape(windows, -1)])
        share = share / 1024
        assert np.abs(tensor(layer + "/sequence_share")[i] - share.sum(0)).max() < 0.02
        assert np.abs(tensor(layer + "/sequence_share_squares")[i] - (share**2).sum(0)).max() < 0.02
        gates = tensor(layer + "/gate_sum")[i]
        assert abs(gates.sum() - tokens) < 1e-3 * tokens  # weights of a token add up to 1
        assert abs(tensor(layer + "/score_sum")[i].sum() - tokens) < 1e-3 * tokens
        if tokens == authors["tokens_per_domain"]:
            expected = np.array(authors["gate_weight_sum"][label][number])
            assert np.abs(gates - expected).max() < 4, (gates, expected)
print(f"{len(layers)} layers, {len(labels)} labels, {tokens} tokens each: counts differ by at most {worst:g}")
assert worst <= 4
