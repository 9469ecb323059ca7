"""usage: check_text_inputs.py FOLDER    the perplexity of text.onnx (moe_arrays.py): ONNX Runtime's is moec's"""
import json
import pathlib
import subprocess
import sys

import numpy as np
import onnxruntime

folder, WINDOW = pathlib.Path(sys.argv[1]), 16
ids = np.load(folder / "texts" / "a.npy")
windows = ids[:-1].reshape(-1, WINDOW)
session = onnxruntime.InferenceSession(str(folder / "text.onnx"), providers=["CPUExecutionProvider"])
logits, = session.run(None, {"input_ids": windows, "token_type_ids": np.zeros_like(windows),
                             "attention_mask": np.ones_like(windows),
                             "position_ids": np.tile(np.arange(WINDOW), (len(windows), 1))})
logits = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
wanted = np.exp((np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), ids[1:]]).mean())
run = subprocess.run(["moec", "perplexity", folder / "text.onnx", "--tokens", folder / "texts" / "a.npy",
                      "--window", str(WINDOW), "--format=json"], capture_output=True, text=True, check=True)
got = json.loads(run.stdout)["overall"]
print("ok" if abs(got / wanted - 1) < 1e-4 else "FAILED", f"perplexity {got:.5f}, ONNX Runtime {wanted:.5f}")
