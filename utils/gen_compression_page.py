#!/usr/bin/env python3
"""Measures every compression method on the trained model and writes the tables of docs/compression.md.

usage: gen_compression_page.py [--check] [--parts methods,search,domains] [--methods A,B] [--shares 0.125,0.25,0.5]
                               [--repaired 0.25,0.5] [--work FOLDER] [--moec PATH]

Each method of `moec compress --compare` removes the same share of each layer's experts, at the sizes
of --repaired also with the least-squares repair, at which the recipe search runs, too; then single
domains. Perplexities are of the first 40 windows of 256 tokens of each text of eval/ (24 of a single
domain), statistics from the first 64 windows of each text of calibration/. What was measured stays in
--work, so that an interrupted run goes on. With --check nothing is written: the rows of --methods are
measured again and compared with the page.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT.parent / "shared/models/trained/moe-lm"
PAGE = ROOT / "docs/compression.md"
PARTS = ("methods", "search", "domains")  # <!-- generated: PART --> ... <!-- end of PART -->
SEEDS = 3
DOMAIN_METHODS = ["gated-norm", "narrow-obs"]  # repaired
CLOSE = 0.003  # relative; sums in another order on another machine


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--methods", default="all")
    parser.add_argument("--shares", default="0.125,0.25,0.5")
    parser.add_argument("--repaired", default="0.25,0.5")
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--moec", default=str(ROOT / "build/bin/moec"))
    return parser.parse_args()


def summaries(moec):
    text = subprocess.run([moec, "compress", "--methods"], capture_output=True, text=True, check=True).stdout
    return dict(line.split(None, 1) for line in text.splitlines() if line.strip())


def compress(args, share, *more, domain="", windows=40):
    name = f"{domain}.npy" if domain else ""
    command = [args.moec, "compress", MODEL / "prefill.onnx", f"--prune={share}", "--data", MODEL / "calibration" / name,
               "--eval", MODEL / "eval" / name, f"--eval-windows={windows}", "--windows=64", f"--random-seeds={SEEDS}",
               "--format=json", f"--work={args.work}", *more]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def measure(args, shares):
    """method -> [(plain, repaired) for each share], and the original's perplexity."""
    rows, before = {}, None
    for i, share in enumerate(shares):
        repair = "down" if share in shares_of(args.repaired) else "none"
        report = compress(args, share, f"--compare={args.methods}", f"--repair={repair}")
        before = report["perplexity_before"]
        for entry in report["methods"]:
            cells = rows.setdefault(entry["method"], [[None, None] for _ in shares])
            cells[i][entry["repair"] != "none"] = entry["perplexity"]
        print("compared at", share, file=sys.stderr, flush=True)
    return rows, before


def shares_of(text):
    return [float(s) for s in text.split(",")]


def cell(value):
    return "-" if value is None else f"{value:.2f}"


def columns(rows):
    """(size, repaired or not) of each column that has a value."""
    first = next(iter(rows.values()))
    return [(i, r) for i in range(len(first)) for r in (0, 1) if any(cells[i][r] for cells in rows.values())]


def table(rows, texts, shares, before):
    head = [f"{100 * shares[i]:g} %" + (", repaired" if r else "") for i, r in columns(rows)]
    lines = [f"Nothing removed: {before:.2f}. *random*: the mean of seeds 0 to {SEEDS - 1} (repaired: seed 0).", "",
             "| method | " + " | ".join(head) + " | what it keeps |", "| --- |" + " ---: |" * len(head) + " --- |"]
    for name, cells in rows.items():
        text = " | ".join(cell(cells[i][r]) for i, r in columns(rows))
        lines.append(f"| {name} | {text} | {texts[name]} |")
    return lines


def verdicts(rows, shares):
    lines = []
    for i, repaired in columns(rows):
        chance = rows["random"][i][repaired]
        worse = [n for n, cells in rows.items()
                 if n != "random" and cells[i][repaired] and cells[i][repaired] >= chance]
        lines.append(f"- {100 * shares[i]:g} % removed, {'repaired' if repaired else 'nothing repaired'}: "
                     + (f"no better than random ({chance:.2f}): {', '.join(worse)}." if worse
                        else f"every method is better than random ({chance:.2f})."))
    return lines


def kept(report):
    """What the layers keep, in words."""
    layers = report["layers"]
    if all(e["experts_after"] == e["experts_before"] for e in layers) and "neurons_after" in layers[0]:
        return "all experts; neurons " + ", ".join(str(e["neurons_after"]) for e in layers)
    return "experts " + ", ".join(str(e["experts_after"]) for e in layers)


def searches(args, shares):
    lines = ["| removed | method | what the layers keep | repair | perplexity | random | frequency | KL, nats a token |",
             "| ---: | --- | --- | --- | ---: | ---: | ---: | ---: |"]
    for share in shares:
        r = compress(args, share)
        recipe = r["recipe"]
        lines.append(f"| {100 * share:g} % | {recipe['method']} | {kept(r)} | {recipe['repair']} | "
                     f"{r['perplexity_after']:.2f} | {r['perplexity_random']:.2f} | "
                     f"{r['perplexity_frequency']:.2f} | {r['kl']:.4f} |")
        print("search", share, lines[-1], file=sys.stderr, flush=True)
    return lines


def domains(args):
    """One domain's profile, experts and repair; its perplexity beside the best script's on the same."""
    reference = json.loads((MODEL / "compression_baselines.json").read_text())["one_domain"]
    lines = ["| domain | removed | original | best script | " + " | ".join(DOMAIN_METHODS)
             + " | share of the script's rise |", "| --- | ---: | ---: | ---: |" + " ---: |" * (len(DOMAIN_METHODS) + 1)]
    for domain, before in reference["none"].items():
        for dropped in (8, 16) if domain != "all" else ():
            script = min(row["perplexity"][domain] for row in reference["rows"]
                         if row["domain"] == domain and row["dropped"] == dropped)
            report = compress(args, dropped / 32, f"--compare={','.join(DOMAIN_METHODS)}", "--repair=down",
                              domain=domain, windows=24)
            got = {e["method"]: e["perplexity"] for e in report["methods"] if e["repair"] != "none"}
            shares = ", ".join(f"{100 * (got[m] - before) / (script - before):.0f} %" for m in DOMAIN_METHODS)
            lines.append(f"| {domain} | {100 * dropped / 32:g} % | {report['perplexity_before']:.2f} | {script:.2f} | "
                         + " | ".join(f"{got[m]:.2f}" for m in DOMAIN_METHODS) + f" | {shares} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def check(rows):
    page = PAGE.read_text()
    wrong = 0
    for name, cells in rows.items():
        line = re.search(rf"^\| {re.escape(name)} \|(.*)$", page, re.M)
        new = [cell(cells[i][r]) for i, r in columns(rows)]
        old = [c.strip() for c in line[1].split("|")][:len(new)] if line else []
        for a, b in zip(old, new):
            same = a == b or (a != "-" and b != "-" and abs(float(a) - float(b)) <= CLOSE * float(a) + 0.005)
            wrong += not same
        wrong += len(old) != len(new)
        print(name, "page:", old, "now:", new)
    print(f"{wrong} differ from docs/compression.md")
    return 1 if wrong else 0


def write(part, lines):
    begin, end = f"<!-- generated: {part} -->", f"<!-- end of {part} -->"
    head, rest = PAGE.read_text().split(begin)
    PAGE.write_text(head + begin + "\n\n" + "\n".join(lines) + "\n\n" + end + rest.split(end)[1])


def main():
    args = arguments()
    shares = shares_of(args.shares)
    temporary = None
    if not args.work:
        temporary = tempfile.TemporaryDirectory()
        args.work = pathlib.Path(temporary.name)
    parts = args.parts.split(",")
    if args.check or "methods" in parts:
        rows, before = measure(args, shares)
        if args.check:
            return check(rows)
        write("methods", table(rows, summaries(args.moec), shares, before)
              + ["", "Which methods do not help here:", ""] + verdicts(rows, shares))
    if "search" in parts:
        write("search", searches(args, shares_of(args.repaired)))
    if "domains" in parts:
        write("domains", domains(args))
    return 0


sys.exit(main())
