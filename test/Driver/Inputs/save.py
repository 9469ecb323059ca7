"""usage: save.py FILE TYPE VALUES    writes a .npy file; VALUES is a Python list"""
import ast
import sys

import numpy as np

np.save(sys.argv[1], np.array(ast.literal_eval(sys.argv[3]), sys.argv[2]))
