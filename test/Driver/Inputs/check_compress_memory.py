"""usage: check_compress_memory.py SCRATCH SLACK_MIB [--relative] [--only=NAME,...] make_moe_model arguments...

Profiles a generated language model, shrinks it in many ways, and checks that the peak memory of each step
stays below 1.5 x the largest weight + SLACK_MIB, as that of the compiler does (check_memory.py); with
--relative, below what the same step takes for the same layers of a tiny size + SLACK_MIB. Prints a table.

Steps that run no model are held to it with all resident memory. Those that run one map the compiled weights
and read all of them: of these only what the process holds by itself counts, as the system may drop the rest.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx

MAKER = pathlib.Path(__file__).resolve().parents[3] / "utils/make_moe_model.py"
RAISE = ("--canonicalize --cse --refine-shapes --decompose-onnx --fold-weights --raise-moe --canonicalize "
         "--fuse-gating").split()
WINDOW, WINDOWS = 64, 16


def own_memory(pid):
    """Bytes that are no pages of files; 0 when the process is gone."""
    try:
        lines = open(f"/proc/{pid}/status").read().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))


def peaks(words):
    """Peak of own memory, peak of all resident memory, seconds of the processor."""
    own, said = 0, tempfile.TemporaryFile()
    run = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=said)
    while True:
        pid, status, usage = os.wait4(run.pid, os.WNOHANG)
        if pid:
            break
        own = max(own, own_memory(run.pid))
        time.sleep(0.01)
    if status:
        said.seek(0)
        errors = [line for line in said.read().decode().splitlines() if "error" in line]
        sys.exit(f"status {status}: {' '.join(map(str, words))}\n" + "\n".join(errors))
    return own, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def texts(folder, count, vocabulary):
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(1)
    for label in "a", "b":
        np.save(folder / f"{label}.npy", random.integers(0, vocabulary, count * WINDOW + 1))


def make(folder, words):
    """A model with its texts, when it is not there yet: its largest weight and all, in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model.onnx").exists():
        subprocess.run([sys.executable, MAKER, folder, *words], check=True)
    vocabulary = int(words[words.index("--vocabulary") + 1])
    texts(folder / "data", WINDOWS, vocabulary)
    texts(folder / "eval", 1, vocabulary)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    largest = max(int(e.value) for t in model.graph.initializer for e in t.external_data if e.key == "length")
    return largest, (folder / "model.onnx.data").stat().st_size


def steps(folder, layers, experts):
    """Name, whether it runs the model, words. What computes much does so in the first layer only."""
    shutil.rmtree(folder / "work", ignore_errors=True)
    model, profile, small = folder / "model.onnx", folder / "model.moep", folder / "small.onnx"
    yield "compile", False, ["moec", "compile", model, "-o", folder / "m.so"]
    yield "export", False, ["moec", "export", model, "-o", small]
    yield "profile", True, ["moec", "profile", model, "--data", folder / "data", "--window", WINDOW, "--tier=2",
                            "--reservoir=1024", "--out", profile]
    given = f"profile={profile} folder={folder} "
    prune = "prune-experts=criterion=soft drop=0.25"
    first, one = ("budget=" + ",".join([str(n)] + ["0"] * (layers - 1)) for n in (experts // 4, 1))
    for name, pipeline in {
            "prune-soft": [prune],
            "prune-reconstruction": ["prune-experts=criterion=reconstruction " + first],
            "replace-by-constants": ["prune-experts=criterion=mone replace=constant drop=0.25"],
            "merge-ream": ["merge-experts=preset=ream drop=0.25"],
            "merge-hc-smoe": ["merge-experts=preset=hc-smoe drop=0.25"],
            "merge-m-smoe": ["merge-experts=preset=m-smoe drop=0.25"],
            "merge-sub-moe": ["merge-experts=preset=sub-moe rank=0.5 " + one],
            "merge-mergemoe": ["merge-experts=preset=mergemoe " + first],
            "recombine-dern": ["recombine-neurons=alpha=-1 " + one],
            "narrow-obs": ["narrow-experts=criterion=obs " + first],
            "repair-down": [prune, "repair-down=layers=0 sweeps=1 ridge=0.03"],
            "repair-linear": [prune, "repair-linear=layers=0"],
            "repair-bias": [prune, "repair-bias=layers=0"],
            "refit-router": [prune, "refit-router=map-dropped layers=0"]}.items():
        passes = ["--" + one.replace("=", "=" + given, 1) for one in pipeline]
        yield name, False, ["moe-opt", model, *RAISE, *passes, "--emit=onnx", "-o", small]
    compress = ["moec", "compress", model, "--prune=0.25", "--data", folder / "data", "--eval", folder / "eval",
                "--window", WINDOW, "--windows", WINDOWS - 1, "--search-windows=1", "--random-seeds=0",
                "--progress=none", "--work", folder / "work"]
    yield "compress-to-onnx", True, compress + ["--method=soft", "--out", small]
    yield "compress-to-so", True, compress + ["--method=ream", "--out", folder / "small.so"]


def main():
    scratch, slack, words = pathlib.Path(sys.argv[1]), int(sys.argv[2]) << 20, sys.argv[3:]
    layers, experts = (int(words[words.index(name) + 1]) for name in ("--layers", "--experts"))
    relative = words[0] == "--relative"
    words = words[relative:]
    only = words.pop(0)[7:].split(",") if words[0].startswith("--only=") else []
    largest, total = make(scratch, words)
    os.environ["TMPDIR"] = str(scratch)
    print(f"weights {total >> 20} MiB, largest {largest >> 20} MiB")
    limits = {}
    if relative:
        make(scratch / "tiny", words + ["--hidden", "32", "--inter", "16"])
        limits = {name: peaks(command)[not runs] + slack
                  for name, runs, command in steps(scratch / "tiny", layers, experts) if not only or name in only}
    failed = False
    for name, runs, command in steps(scratch, layers, experts):
        if only and name not in only:
            continue
        own, resident, seconds = peaks(command)
        limit = limits.get(name, int(1.5 * largest) + slack)
        above = (own if runs else resident) > limit
        failed |= above
        print(f"{'FAILED' if above else 'ok':6} {name:20} {own >> 20:6} MiB own, {resident >> 20:6} MiB resident, "
              f"limit {limit >> 20} MiB, {seconds:.1f} s", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
