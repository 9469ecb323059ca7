"""usage: merge.py FOLDER: writes w.bin and p.moep, the weights and a profile of the layer @bank.

Four experts of relu, two a token, hidden 4, inter 3, f16. Expert 0 is expert 3 with its neurons in
another order, and has its column of the router.
"""
import sys

import numpy as np

from profile_file import statistics, write_profile

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
tensors = {"tokens": N, "count": chosen.sum((0, 1)),
           "gate_sum": (chosen * g[:, :, None]).sum((0, 1)), "logit_gram": z.T @ z}
write_profile(f"{folder}/p.moep",
              [{"name": "bank", "experts": E, "k": K, "hidden": H,
                "statistics": {name: "sum" for name in tensors}}],
              statistics("bank", tensors))
