#!/usr/bin/env python3
"""Runs all tests of a build folder and counts them; scripts/test calls it.

usage: run_tests.py [--build build] [--slow] [--filter REGEX]

The last line is `N passed, N failed, N skipped`; the exit code is 1 when a test failed.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIT_PASS = {"PASS", "XFAIL", "FLAKYPASS"}
LIT_SKIP = {"UNSUPPORTED", "SKIPPED", "EXCLUDED"}


def googletest(build, folder, pattern):
    """Results of every *Tests program: (name, "passed" | "failed" | "skipped", text)."""
    for program in sorted((build / "bin").glob("*Tests")):
        if pattern and not re.search(pattern, program.name):
            continue
        report = folder / (program.name + ".json")
        start = time.time()
        run = subprocess.run([program, f"--gtest_output=json:{report}", "--gtest_brief=1"],
                             cwd=ROOT, capture_output=True, text=True, errors="replace")
        print(f"      {program.name} ({time.time() - start:.1f} s)", flush=True)
        if not report.exists():
            yield program.name, "failed", run.stdout[-4000:] + run.stderr[-4000:]
            continue
        results = []
        for suite in json.loads(report.read_text())["testsuites"]:
            for test in suite["testsuite"]:
                name = f"{program.name}: {suite['name']}.{test['name']}"
                text = "\n".join(f["failure"] for f in test.get("failures", []))
                state = "failed" if text else "skipped" if test["result"] == "SKIPPED" else "passed"
                results.append((name, state, text))
        yield from results
        if run.returncode and not any(state == "failed" for _, state, _ in results):
            yield program.name, "failed", f"exit code {run.returncode}\n" + run.stderr[-4000:]


def lit(build, folder, pattern, slow):
    report = folder / "lit.json"
    command = [ROOT / ".venv/bin/lit", "-s", "--output", report, build / "test"]
    if pattern:
        command += ["--filter", pattern]
    if slow:
        command += ["--param", "slow=1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    if not report.exists():
        yield "lit", "failed", run.stdout[-4000:] + run.stderr[-4000:]
        return
    for test in json.loads(report.read_text())["tests"]:
        code = test["code"]
        state = "passed" if code in LIT_PASS else "skipped" if code in LIT_SKIP else "failed"
        if code != "EXCLUDED":
            yield test["name"], state, test.get("output", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--filter", default="")
    args = parser.parse_args()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    skipped = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for step, title, results in (
                (2, "GoogleTest programs", googletest(args.build, scratch, args.filter)),
                (3, "lit tests (IR, commands, models, documentation)",
                 lit(args.build, scratch, args.filter, args.slow))):
            print(f"[{step}/3] {title}", flush=True)
            for name, state, text in results:
                counts[state] += 1
                if state == "failed":
                    print(f"FAILED {name}\n{text}", flush=True)
                elif state == "skipped":
                    skipped.append(name)
    if skipped:
        print(f"skipped, for want of what they need ({len(skipped)}): " + ", ".join(skipped[:20])
              + (", ..." if len(skipped) > 20 else ""))
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] or not counts["passed"] else 0


os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
sys.exit(main())
