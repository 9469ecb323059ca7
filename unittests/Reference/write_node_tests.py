"""Writes the ONNX library's own operator tests as files: for each a folder with model.onnx,
tolerance and test_data_set_N/*.pb.

    write_node_tests.py FOLDER
"""

import os
import sys
import warnings

warnings.filterwarnings("ignore")
from onnx import TensorProto, numpy_helper  # noqa: E402
from onnx.backend.test.case.node import collect_testcases  # noqa: E402


def standard(case):
    """Whether the model is made of tensors and of the default domain's operators."""
    values = (*case.model.graph.input, *case.model.graph.output)
    return all(v.type.HasField("tensor_type") for v in values) and {
        o.domain for o in case.model.opset_import
    } <= {"", "ai.onnx"}


def write(case, folder):
    os.makedirs(folder)
    with open(os.path.join(folder, "model.onnx"), "wb") as file:
        file.write(case.model.SerializeToString())
    with open(os.path.join(folder, "tolerance"), "w") as file:
        file.write(f"{case.atol} {case.rtol}")
    for i, (inputs, outputs) in enumerate(case.data_sets):
        data = os.path.join(folder, f"test_data_set_{i}")
        os.makedirs(data)
        for what, values in (("input", inputs), ("output", outputs)):
            for j, value in enumerate(values):
                tensor = value if isinstance(value, TensorProto) else numpy_helper.from_array(value)
                with open(os.path.join(data, f"{what}_{j}.pb"), "wb") as file:
                    file.write(tensor.SerializeToString())


def main():
    for case in collect_testcases(None):
        if standard(case):
            write(case, os.path.join(sys.argv[1], case.name))


main()
