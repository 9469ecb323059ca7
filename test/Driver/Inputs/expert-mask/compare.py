"""compare.py FOLDER: the outputs of expert-mask.test."""
import sys

import numpy as np

plain, pruned, kept, hooked, masked, biased = (
    np.load(f"{sys.argv[1]}/{run}/output_0.npy")
    for run in ("plain", "pruned", "kept", "hooked", "masked", "biased"))
assert plain.shape == (40, 4)
np.testing.assert_array_equal(hooked, plain)
np.testing.assert_array_equal(masked, kept)
np.testing.assert_allclose(kept, pruned, rtol=1e-5, atol=1e-6)
assert abs(kept - plain).max() > 0.1 and abs(biased - kept).max() > 0.01
print("masked runs are the pruned model")
