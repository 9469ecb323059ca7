"""usage: check_masked.py REPORT.json ORIGINAL.onnx SMALL.onnx EVAL WINDOW WINDOWS

Holds a pruned model of router_models.py to its original with the dropped experts masked in the router
(where there is a correction bias, in what is chosen by), and the report's perplexities to ONNX Runtime's.
"""
import json
import pathlib
import re
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

report = json.load(open(sys.argv[1]))
original, small = sys.argv[2:4]
texts = sorted(pathlib.Path(sys.argv[4]).glob("*.npy"))
window, windows = map(int, sys.argv[5:7])
NONE = np.float32(-1e9)


def dropped():
    found = [re.search(r"experts go \(([0-9, ]+)\)", remark) for remark in report["remarks"]]
    return [[int(e) for e in match[1].split(", ")] for match in found if match]


def masked():
    """The original without the dropped experts: in the correction bias, or behind the router's logits."""
    model = onnx.load(original)
    weights = {t.name: t for t in model.graph.initializer}
    routers = [name for name in weights if name.endswith(("e_score_correction_bias", ".router"))]
    for name, gone in zip(routers, dropped(), strict=True):
        array = numpy_helper.to_array(weights[name]).copy()
        if name.endswith("bias"):
            array[gone] = NONE
            weights[name].CopyFrom(numpy_helper.from_array(array, name))
            continue
        mask = np.zeros(array.shape[1], np.float32)
        mask[gone] = NONE
        model.graph.initializer.append(numpy_helper.from_array(mask, name + ".mask"))
        at = next(i for i, node in enumerate(model.graph.node) if name in node.input)
        logits = model.graph.node[at].output[0]
        for node in model.graph.node:
            node.input[:] = [logits + ".masked" if i == logits else i for i in node.input]
        model.graph.node.insert(at + 1, helper.make_node("Add", [logits, name + ".mask"],
                                                         [logits + ".masked"]))
    return model.SerializeToString()


def predictions(model):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    out = []
    for text in texts:
        ids = np.load(text)[:window * windows].astype(np.int64).reshape(windows, window)
        known = {"input_ids": ids, "attention_mask": np.ones_like(ids),
                 "position_ids": np.tile(np.arange(window), (windows, 1))}
        out.append(session.run(None, {i.name: known[i.name] for i in session.get_inputs()})[0])
    return out


def perplexity(logits):
    loss = []
    for text, values in zip(texts, logits):
        targets = np.load(text)[1:window * windows + 1].reshape(windows, window, 1)
        values = values.astype(np.float64)
        values = values - np.log(np.exp(values).sum(-1, keepdims=True))
        loss.append(-np.take_along_axis(values, targets, -1).mean())
    return np.exp(np.mean(loss))


def check(good, what):
    print("ok" if good else "FAILED", what)
    return not good


before, after, expected = (predictions(m) for m in (original, small, masked()))
apart = max(np.abs(a - b).max() for a, b in zip(after, expected))
changed = max(np.abs(a - b).max() for a, b in zip(before, expected))
failed = check(apart < 1e-4 < 0.1 < changed,
               f"experts masked: {apart:.1e} apart, where masking changes {changed:.2f}")
for when, logits in (("before", before), ("after", after)):
    said, measured = report["perplexity_" + when], perplexity(logits)
    failed |= check(abs(said / measured - 1) < 1e-3, f"perplexity {when}: {said:.4f} and {measured:.4f}")
sys.exit(failed)
