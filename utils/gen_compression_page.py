#!/usr/bin/env python3
"""Measures every compression method on the trained model and writes the tables of docs/compression.md.

usage: gen_compression_page.py [--check] [--methods A,B] [--shares 0.125,0.25,0.5] [--work FOLDER] [--moec PATH]

Each method of `moec compress --methods` removes the same share of each layer's experts, with and
without the least-squares repair; then the recipe search runs at each size. Perplexities are of the
first 40 windows of 256 tokens of each text of eval/, statistics from the first 64 windows of each
text of calibration/. What was measured stays in --work, so that an interrupted run goes on. With
--check nothing is written: the rows of --methods are measured again and compared with the page.
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
BEGIN, END = "<!-- generated: tables -->", "<!-- end of tables -->"
SEEDS = 3
CLOSE = 0.003  # relative; sums in another order on another machine


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--methods", default="")
    parser.add_argument("--shares", default="0.125,0.25,0.5")
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--moec", default=str(ROOT / "build/bin/moec"))
    return parser.parse_args()


def methods(moec):
    text = subprocess.run([moec, "compress", "--methods"], capture_output=True, text=True, check=True).stdout
    return dict(line.split(None, 1) for line in text.splitlines() if line.strip())


def compress(args, share, method, repair):
    command = [args.moec, "compress", MODEL / "prefill.onnx", f"--prune={share}", f"--method={method}",
               f"--repair={repair}", "--data", MODEL / "calibration", "--eval", MODEL / "eval",
               "--eval-windows=40", "--windows=64", "--format=json", f"--work={args.work}"]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if run.returncode == 3:
        return None  # unsupported for this model
    if run.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def measure(args, names, shares):
    """method -> [(plain, repaired) for each share], then the search's reports by share."""
    rows = {}
    for name in names:
        rows[name] = []
        for share in shares:
            pair = [compress(args, share, name, repair) for repair in ("none", "down")]
            rows[name].append([p and p["perplexity_after"] for p in pair])
            if name == "random" and pair[0]:
                rows[name][-1][0] = pair[0]["perplexity_random"]
            print(name, share, rows[name][-1], file=sys.stderr, flush=True)
    return rows


def cell(value):
    return "-" if value is None else f"{value:.2f}"


def table(rows, summaries, shares, before):
    head = " | ".join(f"{100 * s:g} %, plain | {100 * s:g} %, repaired" for s in shares)
    lines = [f"Nothing removed: {before:.2f}. *random*: the mean of seeds 0 to {SEEDS - 1} (repaired: seed 0).", "",
             f"| method | {head} | what it keeps |", "| --- |" + " ---: | ---: |" * len(shares) + " --- |"]
    for name, cells in rows.items():
        text = " | ".join(f"{cell(plain)} | {cell(repaired)}" for plain, repaired in cells)
        lines.append(f"| {name} | {text} | {summaries[name]} |")
    return lines


def verdicts(rows, shares):
    lines = []
    for i, share in enumerate(shares):
        chance = rows["random"][i][0]
        worse = [n for n, cells in rows.items() if n != "random" and cells[i][0] and cells[i][0] >= chance]
        lines.append(f"- {100 * share:g} % removed, nothing repaired: "
                     + (f"no better than random ({chance:.2f}): {', '.join(worse)}." if worse
                        else f"every method is better than random ({chance:.2f})."))
    return lines


def searches(args, shares):
    lines = ["| removed | method | experts kept, by layer | repair | perplexity | random | frequency | KL, nats a token |",
             "| ---: | --- | --- | --- | ---: | ---: | ---: | ---: |"]
    for share in shares:
        r = compress(args, share, "auto", "auto")
        recipe = r["recipe"]
        lines.append(f"| {100 * share:g} % | {recipe['method']} | {', '.join(map(str, recipe['keep']))} | "
                     f"{recipe['repair']} | {r['perplexity_after']:.2f} | {r['perplexity_random']:.2f} | "
                     f"{r['perplexity_frequency']:.2f} | {r['kl']:.4f} |")
        print("search", share, lines[-1], file=sys.stderr, flush=True)
    return lines


def check(rows, shares):
    page = PAGE.read_text()
    wrong = 0
    for name, cells in rows.items():
        line = re.search(rf"^\| {re.escape(name)} \|(.*)$", page, re.M)
        old = [c.strip() for c in line[1].split("|")][:2 * len(shares)] if line else []
        new = [cell(v) for pair in cells for v in pair]
        for a, b in zip(old, new):
            same = a == b or (a != "-" and b != "-" and abs(float(a) - float(b)) <= CLOSE * float(a) + 0.005)
            wrong += not same
        wrong += len(old) != len(new)
        print(name, "page:", old, "now:", new)
    print(f"{wrong} differ from docs/compression.md")
    return 1 if wrong else 0


def main():
    args = arguments()
    shares = [float(s) for s in args.shares.split(",")]
    temporary = None
    if not args.work:
        temporary = tempfile.TemporaryDirectory()
        args.work = pathlib.Path(temporary.name)
    summaries = methods(args.moec)
    names = args.methods.split(",") if args.methods else list(summaries)
    rows = measure(args, names, shares)
    if args.check:
        return check(rows, shares)
    before = compress(args, shares[0], "random", "none")["perplexity_before"]
    lines = table(rows, summaries, shares, before) + ["", "Which methods do not help here:", ""]
    lines += verdicts(rows, shares) + ["", "The search (`moec compress --prune=SHARE`, no method given):", ""]
    lines += searches(args, shares)
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    PAGE.write_text(head + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + rest.split(END)[1])
    return 0


sys.exit(main())
