"""usage: check_baselines.py MOE-LM WORK [quick]

`moec compress` with one criterion against compression_baselines.json beside the model: statistics of
the first 64 windows of each calibration text, perplexity of the first 40 of each held-out text. `quick`: two criteria at one size only.
"""
import json
import pathlib
import shutil
import subprocess
import sys

folder, work, quick = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:] == ["quick"]
NAMES = {"reap": "reap", "gf_sum": "gated-norm", "ean_mean": "mean-norm", "freq": "frequency", "soft": "soft",
         "reap_l2": "reap-l2"}
shutil.rmtree(work, ignore_errors=True)


def perplexity(method, dropped, repair="none"):
    run = subprocess.run(["moec", "compress", folder / "prefill.onnx", f"--keep={32 - dropped}", f"--method={method}",
                          f"--repair={repair}", "--data", folder / "calibration", "--eval", folder / "eval",
                          "--windows=64", "--eval-windows=40", f"--work={work}", "--random-seeds=0",
                          "--format=json"], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{method}: exit code {run.returncode}: {run.stderr.strip()}")
    return json.loads(run.stdout)["perplexity_after"]


rows = json.loads((folder / "compression_baselines.json").read_text())["all_domains"]["rows"]
good = total = better = 0
for row in rows:
    if row["criterion"] not in NAMES or (quick and (row["criterion"] not in ("freq", "soft") or row["dropped"] != 8)):
        continue
    said, got = row["perplexity"]["all"], perplexity(NAMES[row["criterion"]], row["dropped"])
    good += abs(got - said) <= 0.01 * said
    total += 1
    print(row["criterion"], row["dropped"], said, round(got, 3))
    if row["criterion"] == "soft" and not quick:
        repaired = perplexity("soft", row["dropped"], "down")
        print("  repaired", round(repaired, 3))
        better += repaired < got
print(f"{good} of {total} as the scripts, {better} of 2 better when repaired")
