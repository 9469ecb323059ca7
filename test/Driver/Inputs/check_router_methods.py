"""usage: check_router_methods.py FOLDER

Prunes, merges and narrows the models of router_models.py in FOLDER by every method, with repairs where
they apply, and holds the perplexity that was said to ONNX Runtime's. One line for each method.
"""
import json
import pathlib
import subprocess
import sys

import numpy as np
import onnxruntime

folder = pathlib.Path(sys.argv[1])
WINDOW, WINDOWS = 32, 4
OPTIONS = [f"--data={folder}/data", f"--eval={folder}/eval", f"--window={WINDOW}", "--windows=8",
           "--search-windows=2", f"--eval-windows={WINDOWS}", "--random-seeds=0", "--format=json",
           "--progress=none", "--keep=8"]


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}: {' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def in_runtime(model):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    loss = []
    for text in sorted((folder / "eval").glob("*.npy")):
        ids = np.load(text)[:WINDOW * WINDOWS + 1].astype(np.int64)
        rows, targets = ids[:-1].reshape(-1, WINDOW), ids[1:].reshape(-1, WINDOW, 1)
        known = {"input_ids": rows, "attention_mask": np.ones_like(rows),
                 "position_ids": np.tile(np.arange(WINDOW), (WINDOWS, 1))}
        logits = session.run(None, {i.name: known[i.name] for i in session.get_inputs()})[0]
        logits = logits.astype(np.float64)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        loss.append(-np.take_along_axis(logits, targets, -1).mean())
    return np.exp(np.mean(loss))


failed = False
for method in (line.split()[0] for line in run("moec", "compress", "--methods").splitlines()):
    for model in ("bias", "groups", "switch"):
        small = folder / "method.onnx"
        report = json.loads(run("moec", "compress", folder / f"{model}.onnx", f"--method={method}",
                                f"--work={folder}/{model}-work", f"--out={small}",
                                "--repair=" + ("down" if model != "groups" else "none"), *OPTIONS))
        said, measured = report["perplexity_after"], in_runtime(small)
        smaller = report["expert_bytes_after"] / report["expert_bytes_before"]
        good = abs(said / measured - 1) < 1e-3 and 0.6 < smaller < 0.69
        failed |= not good
        print("ok" if good else "FAILED", method, model,
              f"perplexity {said:.4f} and {measured:.4f}, {100 * smaller:.0f} % of the experts' bytes")
sys.exit(failed)
