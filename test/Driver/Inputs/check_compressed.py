"""usage: check_compressed.py REPORT.json SMALL.onnx EVAL WINDOWS

Holds the report of `moec compress` to what moec and ONNX Runtime measure on the model it wrote.
"""
import json
import pathlib
import subprocess
import sys

import numpy as np

report = json.load(open(sys.argv[1]))
model, texts, windows = sys.argv[2], sorted(pathlib.Path(sys.argv[3]).glob("*.npy")), int(sys.argv[4])
WINDOW = 256


def close(a, b, part):
    return abs(a - b) <= part * abs(b)


def check(good, what):
    print("ok" if good else "FAILED", what)
    return not good


def runtime_perplexity():
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    loss = 0.0
    for text in texts:
        ids = np.load(text).astype(np.int64)
        for j in range(windows):
            part = ids[j * WINDOW:(j + 1) * WINDOW + 1]
            logits = session.run(None, {session.get_inputs()[0].name: part[None, :-1]})[0][0].astype(np.float64)
            logits -= logits.max(-1, keepdims=True)
            loss += (np.log(np.exp(logits).sum(-1)) - logits[np.arange(WINDOW), part[1:]]).sum()
    return np.exp(loss / (len(texts) * windows * WINDOW))


after = report["perplexity_after"]
names = ("perplexity_before", "perplexity_after", "perplexity_random", "perplexity_frequency")
failed = check(all(report[n] > 1 for n in names) and report["perplexity_before"] < after <
               report["perplexity_frequency"] and set(report["labels"]) == {t.stem for t in texts},
               "perplexity before, after, random, frequency")
data = pathlib.Path(model + ".data")
written = pathlib.Path(model).stat().st_size + (data.stat().st_size if data.exists() else 0)
failed |= check(report["output_bytes"] == written and
                close(report["expert_bytes_after"], 0.75 * report["expert_bytes_before"], 0.01) and
                report["weight_bytes_after"] <= written <= 1.1 * report["weight_bytes_after"], "bytes")
run = subprocess.run(["moec", "perplexity", model, "--windows", str(windows), "--format=json", "--tokens",
                      ",".join(map(str, texts))], capture_output=True, text=True, check=True)
measured = json.loads(run.stdout)["overall"]
failed |= check(close(measured, after, 1e-3), f"moec perplexity {measured:.4f}, said {after:.4f}")
measured = runtime_perplexity()
failed |= check(close(measured, after, 1e-3), f"ONNX Runtime perplexity {measured:.4f}, said {after:.4f}")
sys.exit(failed)
