"""usage: layer.py FOLDER: writes w.bin and p.moep, the weights and a profile of the layer @bank.

Four experts of relu, two a token, hidden 4, inter 3, f16. The profile's outputs are those of the
layer with other down weights than w.bin has, plus a constant.
"""
import sys

import numpy as np

from profile_file import write_profile

folder = sys.argv[1]
rng = np.random.default_rng(0)
E, K, H, I, N = 4, 2, 4, 3, 400


def half(*shape):
    return rng.standard_normal(shape).astype(np.float16)


router, up, down = half(H, E), half(E, I, H), half(E, H, I)
changed = down + half(E, H, I) / 2
with open(f"{folder}/w.bin", "wb") as f:
    for weight in (router, up, changed.astype(np.float16)):
        f.write(weight.tobytes())

x = rng.standard_normal((N, H)).astype(np.float32)
logits = x @ router.astype(np.float32)
ids = np.argsort(-logits, axis=1, kind="stable")[:, :K].astype(np.int32)
p = np.exp(np.take_along_axis(logits, ids, 1))
weights = (p / p.sum(1, keepdims=True)).astype(np.float32)
y = np.zeros((N, H), np.float32)
for j in range(K):
    h = np.maximum(np.einsum("tih,th->ti", up[ids[:, j]].astype(np.float32), x), 0)
    y += weights[:, j:j + 1] * np.einsum("thi,ti->th", down[ids[:, j]].astype(np.float32), h)
y += np.float32(0.5)

tensors = {"key": np.arange(N, dtype=np.uint64), "label": np.zeros(N, np.int32), "x": x,
           "logits": logits, "ids": ids, "weights": weights, "y": y}
write_profile(f"{folder}/p.moep",
              [{"name": "bank", "experts": E, "k": K, "hidden": H, "reservoir": N}],
              {f"bank/reservoir.{name}": tensor for name, tensor in tensors.items()})
