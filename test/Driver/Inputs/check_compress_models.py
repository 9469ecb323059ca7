"""usage: check_compress_models.py MODELS WORK

Models that are no language models, or are given as such: what `moec compress` says of their outputs' error on the test
data beside them is what ONNX Runtime finds between the original and the model that was written.
"""
import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

models, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
CASES = ["architectures/gshard_top2_capacity", # every token weighs all experts
         "architectures/topp_dynamic_routing", # as many as a token needs
         "architectures/chain_of_experts",   # two layers with one bank
         "architectures/des_runtime_k",      # a softmax of the chosen, none of which may be left
         "architectures/adamoe_null_experts", # columns that are no expert
         "architectures/soft_moe",           # mixtures of tokens: only widths can go
         "exporters/ts-pixel-moe",           # experts of pixels
         "exporters/ts-conv-moe-gather",     # of images, which have no statistics of outputs
         "exporters/ts-lora-moe",
         "exporters/near-router-logits-output",
         "exporters/genai-qwen35moe-attn-fp32",  # masks, positions, caches; several outputs
         "transformers/openai_privacy_filter-hf-dense",
         "transformers/mixtral-hf-decode"]
onnxruntime.set_default_logger_severity(4)


def outputs(model, folder):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs() if o.type == "tensor(float)"]
    inputs = [i.name for i in session.get_inputs()]
    for path in sorted(folder.glob("test_data_set_*")):
        tensors = [onnx.load_tensor(str(path / f"input_{i}.pb")) for i in range(len(inputs))]
        named = all(t.name in inputs for t in tensors)
        yield session.run(names, {t.name if named else name: numpy_helper.to_array(t)
                                  for t, name in zip(tensors, inputs)})


good = 0
for case in CASES:
    folder, small = models / case, work / "small.onnx"
    method = {"exporters/ts-conv-moe-gather": "frequency", "architectures/chain_of_experts": "measured",
              "architectures/soft_moe": "narrow-magnitude"}.get(case, "reap")
    run = subprocess.run(["moec", "compress", folder / "model.onnx", "--prune=0.25", f"--method={method}", "--data",
                          folder, "--eval", folder, "--out", small, "--random-seeds=1", "--format=json"],
                         capture_output=True, text=True)
    if run.returncode:
        print(f"FAILED {case}: exit code {run.returncode}: {run.stderr.strip()}")
        continue
    said = json.loads(run.stdout)["error_after"]
    difference = whole = 0
    for a, b in zip(outputs(folder / "model.onnx", folder), outputs(small, folder)):
        difference += sum(((u.astype(np.float64) - v) ** 2).sum() for u, v in zip(a, b))
        whole += sum((u.astype(np.float64) ** 2).sum() for u in a)
    fits = abs(said - difference / whole) <= 1e-3 * said + 1e-9 and said < 1
    print("ok" if fits else "FAILED", f"{case}: error {said:.6g}, ONNX Runtime {difference / whole:.6g}")
    good += fits
print(f"{good} of {len(CASES)} as ONNX Runtime")
