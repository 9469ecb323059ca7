"""usage: spoil.py FILE    adds 1 to the first element of a .npy file"""
import sys

import numpy as np

values = np.load(sys.argv[1])
values.flat[0] += 1
np.save(sys.argv[1], values)
