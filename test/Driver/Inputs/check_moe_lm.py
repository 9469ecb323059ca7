"""usage: check_moe_lm.py MODEL_FOLDER SCORING DECODE [--windows N]

Compares the perplexities of SCORING (within 0.1 %) and the greedy continuations of DECODE (equal)
with reference.json, meta.json and samples.json of the model's folder.
"""
import argparse
import json
import pathlib
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("scoring")
parser.add_argument("decode")
parser.add_argument("--windows", type=int, default=0)
args = parser.parse_args()
reference = json.loads((args.folder / "reference.json").read_text())
domains = ["c4", "arxiv", "github", "book"]
full = reference["perplexity"]
if args.windows:
    first = reference["onnx_checks"]["prefill"]["perplexity_first_windows_ort_vs_torch"]
    assert first["windows"] == args.windows
    expected = {d: first[d][1] for d in domains}
else:
    expected = {d: full[d] for d in domains}
    expected["overall"] = full["overall"]


def moec(*words):
    return subprocess.run(["moec", *map(str, words)], capture_output=True, text=True, check=True).stdout


words = [w for d in domains for w in ("--tokens", args.folder / f"eval/{d}.npy")]
report = json.loads(moec("perplexity", args.scoring, *words, "--windows", args.windows, "--format=json",
                         "--tokenizer", args.folder / "tokenizer.json"))
got = {pathlib.Path(f["tokens_file"]).stem: f["perplexity"] for f in report["files"]}
got["overall"] = report["overall"]
bad = 0
for name, want in expected.items():
    off = abs(got[name] / want - 1)
    bad += off > 1e-3
    print(f"{name}: {got[name]:.4f}, reference {want:.4f} ({100 * off:.4f} % off)")
if not args.windows:
    for f in report["files"]:
        name = pathlib.Path(f["tokens_file"]).stem
        off = abs(f["bits_per_byte"] / full[name + "_bits_per_byte"] - 1)
        bad += off > 1e-3 or f["tokens"] != reference["protocol"]["tokens_counted_per_domain"]
        print(f"{name}: {f['bits_per_byte']:.4f} bits per byte")
print("perplexity within 0.1 %:", "FAILED" if bad else "ok")

samples = json.loads((args.folder / "samples.json").read_text())
equal = 0
for sample in samples["samples"]:
    ids = ",".join(map(str, sample["prompt_ids"]))
    out = moec("generate", args.decode, "--tokenizer", args.folder / "tokenizer.json", "--prompt-ids", ids,
               "--tokens", samples["new_tokens"], "--ids", "--quiet")
    equal += [int(word) for word in out.split()] == sample["greedy_ids"]
print(f"{equal} of {len(samples['samples'])} greedy continuations are equal")
sys.exit(bool(bad) or equal != len(samples["samples"]))
