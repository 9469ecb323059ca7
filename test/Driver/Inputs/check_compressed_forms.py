"""usage: check_compressed_forms.py MOE-LM SCRATCH quick|all

Shrinks the model in every way and holds each file that comes out to what ONNX Runtime measures on it
and to what `moec perplexity` does, within 0.1 %, and to the size that was said. One line for each.
"""
import json
import pathlib
import subprocess
import sys

import numpy as np
import onnxruntime

models, scratch, quick = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3] == "quick"
WINDOW, WINDOWS, EVAL = 256, 4, 1
TEXTS = sorted((models / "eval").glob("*.npy"))
TYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
RAISE = ("--canonicalize --cse --refine-shapes --decompose-onnx --fold-weights --raise-moe --canonicalize "
         "--fuse-gating").split()
failed = False


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line]
        sys.exit(f"exit code {done.returncode}: {' '.join(map(str, words))}\n" + "\n".join(said))
    return done.stdout


def in_runtime(model):
    """Perplexity in ONNX Runtime; caches are empty."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    loss = 0.0
    for text in TEXTS:
        ids = np.load(text).astype(np.int64)
        for part in (ids[j * WINDOW:(j + 1) * WINDOW + 1] for j in range(EVAL)):
            feed = {}
            for put in session.get_inputs():
                shape = [d if isinstance(d, int) else 1 if i == 0 else 0 for i, d in enumerate(put.shape)]
                feed[put.name] = part[None, :-1] if len(shape) == 2 else np.zeros(shape, TYPES[put.type])
            logits = session.run([session.get_outputs()[0].name], feed)[0][0].astype(np.float64)
            logits -= logits.max(-1, keepdims=True)
            loss += (np.log(np.exp(logits).sum(-1)) - logits[np.arange(WINDOW), part[1:]]).sum()
    return np.exp(loss / (len(TEXTS) * EVAL * WINDOW))


def in_moec(model):
    text = run("moec", "perplexity", model, f"--windows={EVAL}", "--format=json", "--tokens",
               ",".join(map(str, TEXTS)))
    return json.loads(text)["overall"]


def size(model):
    return sum(f.stat().st_size for f in (model, pathlib.Path(f"{model}.data")) if f.exists())


def raised(model):
    """Layers that are found again as experts of one formula."""
    layers = json.loads(run("moec", "inspect", model, "--format=json"))["moe_layers"]
    return sum(layer["body"] != "region" for layer in layers)


LAYERS = 4


def check(name, model, said, bytes_said, least, most):
    """`said` and what is measured; bytes of the file by its weights, and of the experts by the original's; all layers
    are found again."""
    global failed
    found = raised(model)
    near = {"ONNX Runtime": in_runtime(model), "moec": in_moec(model)}
    share = bytes_said[1]
    good = (found == LAYERS and all(abs(p - said) <= 1e-3 * said for p in near.values()) and least <= share <= most and
            bytes_said[0] <= size(model) <= 1.1 * bytes_said[0])
    failed |= not good
    print("ok" if good else "FAILED", f"{name}: perplexity {said:.4f},",
          ", ".join(f"{who} {p:.4f}" for who, p in near.items()) + f"; {size(model)} bytes of "
          f"{bytes_said[0]}, experts {100 * share:.1f} %, {found} layers found", flush=True)


def compressed(form, method, repair="none", least=0.74, most=0.76):
    out = scratch / f"{form}-{method}-{repair}.onnx"
    work = scratch / f"work-{form}"
    said = json.loads(run("moec", "compress", models / f"{form}.onnx", "--prune=0.25", f"--method={method}",
                          f"--repair={repair}", "--data", models / "calibration", "--eval", models / "eval",
                          f"--windows={WINDOWS}", f"--eval-windows={EVAL}", f"--work={work}", "--random-seeds=0",
                          "--out", out, "--format=json"))
    check(f"{form} {method}, repair {repair}", out, said["perplexity_after"],
          (said["weight_bytes_after"], said["expert_bytes_after"] / said["expert_bytes_before"]), least, most)


def by_passes(name, *pipeline):
    """What no method of `compress` does: nothing says a perplexity, so ONNX Runtime is held to moec alone."""
    out = scratch / f"{name.replace(', ', '-').replace(' ', '-')}.onnx"
    given = f"profile={scratch}/model.moep folder={models} "
    run("moe-opt", models / "prefill.onnx", *RAISE, *("--" + p.replace("=", "=" + given, 1) for p in pipeline),
        "--emit=onnx", "-o", out)
    before = size(models / "prefill.onnx") + size(models / "model.onnx.data")
    check(name, out, in_moec(out), (size(out), size(out) / before), 0.65, 0.9)


scratch.mkdir(parents=True, exist_ok=True)
run("moec", "profile", models / "prefill.onnx", "--data", models / "calibration", f"--windows={WINDOWS}", "--tier=2",
    "--reservoir=1024", "--out", scratch / "model.moep")
if quick:  # a method or two for each layer
    by_passes("mone, hc-smoe, narrow, dern", "prune-experts=criterion=mone replace=constant budget=8,0,0,0",
              "merge-experts=preset=hc-smoe budget=0,8,0,0", "narrow-experts=budget=0,0,8,0",
              "recombine-neurons=alpha=-1 budget=0,0,0,8")
    by_passes("zero, mergemoe, ream, sub-moe and repairs",
              "prune-experts=criterion=soft replace=zero budget=8,0,0,0",
              "merge-experts=preset=mergemoe budget=0,8,0,0", "merge-experts=preset=sub-moe budget=0,0,0,8",
              "merge-experts=preset=ream budget=0,0,8,0", "repair-bias=layers=1", "repair-linear=layers=2",
              "repair-down=layers=3")
    compressed("decode", "frequency")
else:
    for method in ("soft", "reconstruction", "mone", "soft-const", "soft-zero", "ream", "hc-smoe", "m-smoe",
                   "sub-moe", "mergemoe", "dern", "narrow-magnitude", "narrow-obs"):
        compressed("prefill", method)
    compressed("prefill", "soft", "sequential")
    by_passes("dern alone", "recombine-neurons=alpha=-1 drop=0.25")
    for repair in "repair-bias", "repair-linear", "repair-down", "refit-router=map-dropped":
        by_passes(repair.split("=")[0], "prune-experts=criterion=soft drop=0.25", repair if "=" in repair else repair + "=")
    compressed("loop", "ream")
    compressed("decode", "soft", "down")
sys.exit(failed)
