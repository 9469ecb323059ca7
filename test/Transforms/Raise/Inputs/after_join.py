"""usage: after_join.py IN.onnx OUT.onnx OPERATOR [NUMBER ...]: applies an operator, with a constant where there are
numbers, to the joined results of sorted experts."""
import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper

model = onnx.load(sys.argv[1])
join = max((n for n in model.graph.node if n.op_type == "Concat"), key=lambda n: len(n.input))
result = join.output[0]
join.output[0] = result + ".joined"
inputs = [join.output[0]]
if numbers := [float(n) for n in sys.argv[4:]]:
    model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.float32), "after.constant"))
    inputs.append("after.constant")
place = list(model.graph.node).index(join) + 1
model.graph.node.insert(place, helper.make_node(sys.argv[3], inputs, [result], name="after"))
onnx.save(model, sys.argv[2], save_as_external_data=True, location=sys.argv[2].split("/")[-1] + ".data")
