"""usage: run_fuzzers.py BIN FOLDER [--seconds N] [--seed N]

Runs ImportFuzzer and WeightReaderFuzzer, one after the other, on seeds made here.
"""
import argparse
import pathlib
import struct
import subprocess
import sys

from kinds import KINDS

LARGE = {"13", "18a", "18b", "18c", "46", "47"}
NAMES = [b"w", b"d/w", b"d/e/w", b"./w", b"d//e/./w", b"..", b"../s", b"d/../w", b"h", b"l", b"d/l/w", b"p",
         b"d", b"", b"/etc/passwd"]


def models(folder):
    """The small models of the list of kinds, good and bad."""
    folder.mkdir(parents=True)
    scratch = folder.parent / "kinds"
    for kind in KINDS:
        if kind.id in LARGE:
            continue
        place = scratch / kind.id
        place.mkdir(parents=True)
        kind.write(place)
        path = place / "model.onnx"
        if path.is_file() and path.stat().st_size < 8192:
            path.chmod(0o600)
            (folder / f"{kind.id}.onnx").write_bytes(path.read_bytes())


def requests(folder):
    """Names, offsets and lengths as WeightReaderFuzzer reads them."""
    folder.mkdir(parents=True)
    for i, name in enumerate(NAMES):
        (folder / f"short{i}").write_bytes(bytes([128 | len(name)]) + name + struct.pack("<HH", 16, 100))
        (folder / f"long{i}").write_bytes(bytes([64 | len(name)]) + name + struct.pack("<QQ", 4990, 2**64 - 4))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    failed = 0
    for name, seeds, longest in (("Import", models, 16384), ("WeightReader", requests, 512)):
        corpus, found = args.folder / name / "corpus", args.folder / name / "found"
        seeds(corpus)
        found.mkdir()
        run = subprocess.run(
            [args.bin / f"{name}Fuzzer", corpus, f"-artifact_prefix={found}/", f"-seed={args.seed}",
             f"-max_total_time={args.seconds}", f"-max_len={longest}", "-timeout=20", "-rss_limit_mb=3000",
             "-print_final_stats=1", "-detect_leaks=0", "-verbosity=1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            errors="replace")
        lines = run.stderr.splitlines()
        print(f"{name}Fuzzer, seed {args.seed}:", *(l for l in lines if "number_of_executed_units" in l))
        if run.returncode:
            failed += 1
            print(f"ended with {run.returncode}; {sorted(map(str, found.iterdir()))}", *lines[-80:], sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
