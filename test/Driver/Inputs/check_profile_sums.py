"""usage: check_profile_sums.py PROFILE MODEL_FOLDER

Recomputes a profile of moe-lm from the tokens in its reservoir and the weights in the model's files. The
reservoir must hold every token. What needs more than them (the residual, the sequences, the sample of
tier 2) is not looked at.
"""
import json
import pathlib
import sys

import numpy as np

data = open(sys.argv[1], "rb").read()
folder = pathlib.Path(sys.argv[2])
size = int.from_bytes(data[:8], "little")
header = json.loads(data[8:8 + size])
types = {"F64": np.float64, "F32": np.float32, "I32": np.int32, "U64": np.uint64}
weights = {w["parameter"]: w for w in json.loads((folder / "weights.json").read_text())["tensors"]}
bytes_ = (folder / "model.onnx.data").read_bytes()


def tensor(name):
    begin, end = header[name]["data_offsets"]
    entry = header[name]
    return np.frombuffer(data[8 + size:][begin:end], types[entry["dtype"]]).reshape(entry["shape"])


def weight(name):
    w = weights[name]
    values = np.frombuffer(bytes_[w["offset"]:w["offset"] + w["length"]], np.float16)
    return values.reshape(w["shape"]).astype(np.float64)


def close(layer, name, expected, tolerance=2e-5):
    got = tensor(f"{layer}/{name}")[label]
    if name in ("gated_norm_max", "output_max", "output_max_channel"):
        assert (got[~used] == -np.inf).all()
        got, expected = got[used], expected[used]
    scale = max(np.abs(expected).max(), 1e-30)
    error = np.abs(got - expected).max() / scale
    assert error < tolerance, (layer, label, name, error)


def bins(shares):
    return np.bincount(np.clip((shares * 32).astype(int), 0, 31), minlength=32)


layers = sorted({name.rsplit("/", 1)[0] for name in header if name.endswith("/count")})
checked = 0
for number, layer in enumerate(layers):
    rows = {name: tensor(f"{layer}/reservoir.{name}")
            for name in ("label", "x", "logits", "ids", "weights", "y")}
    gate_up = weight(f"model.layers.{number}.mlp.experts.gate_up_proj")
    down = weight(f"model.layers.{number}.mlp.experts.down_proj")
    for label in range(rows["label"].max() + 1):
        mine = rows["label"] == label
        x, z, g, y = (rows[n][mine].astype(float) for n in ("x", "logits", "weights", "y"))
        ids = rows["ids"][mine].astype(int)
        assert len(x) == tensor(f"{layer}/tokens")[label]
        hidden = np.einsum("th,ehi->eti", x, gate_up)
        gate, up = hidden[..., :128], hidden[..., 128:]
        f = np.einsum("eti,eih->teh", gate / (1 + np.exp(-gate)) * up, down)  # of all experts
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        G = np.zeros_like(z)
        np.put_along_axis(G, ids, g, 1)
        chosen = G > 0
        used = chosen.any(0)
        norm = np.linalg.norm(f, axis=2)
        close(layer, "count", chosen.sum(0), 1e-12)
        close(layer, "coactivation", chosen.T.astype(float) @ chosen, 1e-12)
        close(layer, "rank_count", np.stack([np.bincount(c, minlength=32) for c in ids.T], 1), 1e-12)
        close(layer, "gate_sum", G.sum(0))
        close(layer, "gate_squares", (G**2).sum(0))
        close(layer, "score_sum", p.sum(0))
        close(layer, "logit_sum", z.sum(0))
        close(layer, "logit_gram", z.T @ z)
        close(layer, "score_gram", p.T @ p)
        best = z.argmax(1)
        close(layer, "top_logit_sum", np.bincount(best, z.max(1), 32))
        ranked = -np.sort(-p, 1)[:, :4]
        for r in range(4):
            for name, share in (("ratio_bins", ranked[:, r] / ranked[:, 0]),
                                ("mass_bins", ranked[:, :r + 1].sum(1))):
                got = tensor(f"{layer}/{name}")[label][r]
                assert np.abs(got - bins(share)).max() <= 1 and got.sum() == len(x), (layer, name)
        entropy = -(p * np.log(p)).sum(1) / np.log(32)
        assert np.abs(tensor(f"{layer}/entropy_bins")[label] - bins(entropy)).max() <= 1
        close(layer, "norm_sum", (norm * chosen).sum(0), 1e-4)
        close(layer, "gated_norm_sum", (norm * G).sum(0), 1e-4)
        close(layer, "gated_norm_squares", ((norm * G)**2).sum(0), 1e-4)
        close(layer, "gated_norm_max", (norm * G).max(0), 1e-4)
        cosine = np.einsum("teh,th->te", f, x) / norm / np.linalg.norm(x, axis=1)[:, None]
        close(layer, "turn_sum", (norm * G * (1 - cosine)).sum(0), 1e-4)
        close(layer, "output_max", (np.abs(f).max(2) * chosen).max(0), 1e-4)
        close(layer, "output_max_channel", (np.abs(f) * chosen[..., None]).max(0), 1e-4)
        close(layer, "output_sum", np.einsum("teh,te->eh", f, chosen.astype(float)), 1e-4)
        close(layer, "output_squares", np.einsum("teh,te->eh", f**2, chosen.astype(float)), 1e-4)
        close(layer, "gated_output_sum", np.einsum("teh,te->eh", f, G), 1e-4)
        assert np.abs(np.einsum("teh,te->th", f, G) - y).max() < 1e-4 * np.abs(y).max()
        checked += 1
print(f"{checked} profiles recomputed")
