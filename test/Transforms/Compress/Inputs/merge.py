"""usage: merge.py FOLDER: writes w.bin and p.moep, the weights and a profile of the layer @bank.

Four experts of relu, two a token, hidden 4, inter 3, f16. Expert 0 is expert 3 with its neurons in
another order, and has its column of the router.
"""
import json
import struct
import sys

import numpy as np

folder = sys.argv[1]
rng = np.random.default_rng(1)
E, K, H, I, N = 4, 2, 4, 3, 200


def half(*shape):
    return rng.standard_normal(shape).astype(np.float16)


router, up, down = half(H, E), half(E, I, H), half(E, H, I)
order = [2, 0, 1]
router[:, 0], up[0], down[0] = router[:, 3], up[3][order], down[3][:, order]
with open(f"{folder}/w.bin", "wb") as f:
    for weight in (router, up, down):
        f.write(weight.tobytes())

x = rng.standard_normal((N, H))
z = x @ router.astype(np.float64)
ids = np.argsort(-z, axis=1, kind="stable")[:, :K]
p = np.exp(np.take_along_axis(z, ids, 1))
g = p / p.sum(1, keepdims=True)
chosen = (ids[:, :, None] == np.arange(E)).astype(np.float64)
tensors = {"tokens": np.float64(N), "count": chosen.sum((0, 1)),
           "gate_sum": (chosen * g[:, :, None]).sum((0, 1)), "logit_gram": z.T @ z}
header, data = {}, b""
for name, tensor in tensors.items():
    raw = np.asarray(tensor, "<f8").tobytes()
    header[f"bank/{name}"] = {"dtype": "F64", "shape": [1, *np.shape(tensor)],
                              "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
layer = {"name": "bank", "experts": E, "k": K, "hidden": H, "router": "", "weight_hash": "",
         "statistics": {name: "sum" for name in tensors}}
header["__metadata__"] = {"format": "moec-profile", "version": "1", "profile": json.dumps(
    {"model": "merge.mlir", "labels": ["text"], "layers": [layer]})}
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(f"{folder}/p.moep", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + data)
