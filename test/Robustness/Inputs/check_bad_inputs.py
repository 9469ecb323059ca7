"""usage: check_bad_inputs.py FOLDER [--only ID...] [--list]

Writes one small model for each kind of the list in kinds/ and gives it to moec. A bad one must end
with its exit code and one line (or one for each unsupported node) that begins with the file's name
and contains what the list says, must print nothing else, and must leave no file; `moec inspect`
must refuse it with the same words when the model is wrong. A legal one must compile in silence, and
agree with the reference interpreter (`moec verify`).
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

from kinds import KINDS, MISSING

LIMIT = 300  # seconds; only a guard against hanging
LONGEST = 2000  # characters of a line


def moec(*words, prefix=()):
    try:
        run = subprocess.run([*prefix, "moec", *map(str, words)], capture_output=True, timeout=LIMIT,
                             stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return None, "", f"still running after {LIMIT} s"
    # AddressSanitizer remarks on the linker's switch of stacks; that is none of ours.
    stderr = re.sub(r"==\d+==WARNING: ASan doesn't fully support [^\n]*\n", "",
                    run.stderr.decode(errors="replace"))
    return run.returncode, run.stdout.decode(errors="replace"), stderr


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def refused(kind, model, lines):
    """What is wrong with the lines of a refusal."""
    faults = []
    if len(lines) != kind.lines:
        faults.append(f"{len(lines)} lines instead of {kind.lines}")
    for line in lines:
        if not line.startswith("moec: ") or str(model) not in line:
            faults.append("a line does not begin with the file's name")
        if len(line) > LONGEST:
            faults.append(f"a line of {len(line)} characters")
        if any(ord(c) < 32 for c in line):
            faults.append("control characters")
        faults += [f"{text!r} is not said" for text in kind.says if text not in line]
    return faults


def check(kind, folder):
    place, out = folder / kind.id / "model", folder / kind.id / "out"
    shutil.rmtree(folder / kind.id, ignore_errors=True)
    place.mkdir(parents=True)
    out.mkdir()
    model = kind.write(place) or place / "model.onnx"
    if not isinstance(model, (str, pathlib.Path)) or not os.path.lexists(model):
        model = place / "model.onnx"
    before = listing(place)
    arguments = [a.format(model=model, out=out) for a in kind.arguments]
    if "-o" not in arguments:
        arguments += ["-o", out / "m.so"]
    code, stdout, stderr = moec("compile", model, f"-O{kind.level}", *arguments, prefix=kind.prefix)
    lines = stderr.splitlines()
    faults = [] if code == kind.code else [f"exit code {code} instead of {kind.code}"]
    if listing(place) != before:
        faults.append("files were left beside the model")
    if kind.code:
        faults += refused(kind, model, lines)
        if stdout:
            faults.append("something on stdout")
        if listing(out):
            faults.append("left " + ", ".join(listing(out)))
    elif stderr:
        faults.append("not silent")
    faults += further(kind, model, stderr, prefix=kind.prefix)
    if not faults:
        shutil.rmtree(folder / kind.id)
    return kind, faults, stderr


def further(kind, model, stderr, prefix):
    """What `moec inspect` and `moec verify` make of it."""
    faults = []
    if kind.inspect and kind.code:
        code, _, said = moec("inspect", model, prefix=prefix)
        if kind.code == 1 and (code, said) != (1, stderr):
            faults.append(f"inspect ends with {code}: {said}")
        elif code not in (0, kind.code):
            faults.append(f"inspect ends with {code}: {said}")
    if kind.code == 0 and kind.verify is not None:
        code, stdout, said = moec("verify", model, "--no-onnxruntime", "--no-locate", *kind.verify)
        if code:
            faults.append(f"verify ends with {code}: {stdout}{said}")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--list", action="store_true", help="print the list and end")
    args = parser.parse_args()
    if args.list:
        for kind in KINDS:
            says = "compiles" if kind.code == 0 else f"{kind.code}: " + ", ".join(map(repr, kind.says))
            print(f"{kind.id:5} {kind.what:75} {says}")
        for number, what in MISSING:
            print(f"{number:<5} {what:75} no such input yet")
        return 0
    chosen = [k for k in KINDS if not args.only or k.id in args.only]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for kind, faults, stderr in pool.map(lambda k: check(k, args.folder.absolute()), chosen):
            if faults:
                failed += 1
                print(f"FAILED {kind.id} ({kind.what}):")
                print("".join(f"    {f}\n" for f in faults) + f"    stderr: {stderr[:1500]!r}", flush=True)
    print(f"{len(chosen)} files, {failed} failed; no such input yet: " + ", ".join(str(n) for n, _ in MISSING))
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
