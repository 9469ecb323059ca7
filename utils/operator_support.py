#!/usr/bin/env python3
"""Runs ONNX's own operator tests and keeps docs/supported-operators.md.

usage: operator_support.py run [--engine compiled|interpreter] [--level 0|1|2] [--every N] [--filter REGEX]
       operator_support.py update      runs everything, rewrites the expectations and the page
       operator_support.py page [--check]

The tests are those of the onnx package's backend test tool; they are written to build/node-tests.
test/Operators/expected-failures.txt says which of them fail, with which engine, and why. `run` is
strict both ways: a failure that is not expected and an expected one that passes are both errors.
The page follows from the tests and the expectations alone.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "test/Operators/expected-failures.txt"
MODEL_OPERATORS = ROOT / "test/Operators/model-operators.txt"
PAGE = ROOT / "docs/supported-operators.md"
ENGINES = ("compiled", "interpreter")

# --- the tests -----------------------------------------------------------------------------------


def category(case):
    """What keeps a test from being one of inference on tensors of numbers, or ""."""
    if any("training" in o.domain for o in case.model.opset_import):
        return "training"
    values = (*case.model.graph.input, *case.model.graph.output)
    if not all(v.type.HasField("tensor_type") for v in values):
        return "sequence or optional"
    return "string" if any(v.type.tensor_type.elem_type == 8 for v in values) else ""


def operator_of(case, by_name):
    """The operator that a test is about: "domain::Type" or "Type"."""
    base = re.sub(r"_expanded.*", "", case.name)
    case = by_name.get(base, case)
    squeezed = base.replace("_", "").lower()
    nodes = sorted(case.model.graph.node, key=lambda n: -len(n.op_type))
    named = [n for n in nodes if n.op_type.lower() in squeezed]
    node = (named or list(case.model.graph.node))[0]
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def write_case(case, folder):
    from onnx import TensorProto, numpy_helper
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    (folder / "tolerance").write_text(f"{case.atol} {case.rtol}")
    for i, (inputs, outputs) in enumerate(case.data_sets):
        data = folder / f"test_data_set_{i}"
        data.mkdir()
        for what, values in (("input", inputs), ("output", outputs)):
            for j, value in enumerate(values):
                tensor = value if isinstance(value, TensorProto) else numpy_helper.from_array(value)
                (data / f"{what}_{j}.pb").write_bytes(tensor.SerializeToString())


def cases(build):
    """Writes the tests below build/node-tests once; returns their folder and index."""
    import importlib.metadata
    folder = build / "node-tests" / importlib.metadata.version("onnx")
    if not folder.exists():
        import os
        import shutil
        import warnings
        warnings.filterwarnings("ignore")
        from onnx.backend.test.case.node import collect_testcases
        fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
        found = sorted(collect_testcases(None), key=lambda case: case.name)
        by_name = {case.name: case for case in found}
        table = {}
        for case in found:
            opsets = [o.version for o in case.model.opset_import if o.domain in ("", "ai.onnx")]
            table[case.name] = {"operator": operator_of(case, by_name), "category": category(case),
                                "opset": max(opsets, default=0)}
            if table[case.name]["category"] == "sequence or optional":
                case.data_sets.clear()
            write_case(case, fresh / case.name)
        (fresh / "index.json").write_text(json.dumps(table, indent=0))
        try:
            fresh.rename(folder)
        except OSError:  # somebody else was quicker
            shutil.rmtree(fresh)
    return folder, json.loads((folder / "index.json").read_text())


# --- running -------------------------------------------------------------------------------------


class Worker:
    """One process that runs a list of tests; started again behind a test that ends it."""

    def __init__(self, build, engine, folder, names):
        self.command = [build / "bin/run-node-tests", engine, folder]
        self.names, self.results = names, {}
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.process.stdin.write("".join(name + "\n" for name in self.names))
        self.process.stdin.close()

    def wait(self):
        while True:
            for line in self.process.stdout:
                name, *rest = line.rstrip("\n").split("\t")
                if rest:
                    self.results[name] = (rest[0], float(rest[1]), rest[2] if len(rest) > 2 else "")
            code = self.process.wait()
            left = [name for name in self.names if name not in self.results]
            if not left:
                return self.results
            self.results[left[0]] = ("fail", 0.0, f"ends the process (code {code})")
            self.names = left[1:]
            if not self.names:
                return self.results
            self.start()


def run(build, engine, folder, names, jobs, level=1):
    if engine == "compiled":
        engine += str(level)
    workers = [Worker(build, engine, folder, names[i::jobs]) for i in range(jobs) if names[i::jobs]]
    results = {}
    for worker in workers:
        results.update(worker.wait())
    return results


# --- expectations --------------------------------------------------------------------------------


def read_expected():
    """{engine: {test: reason}}"""
    expected = {engine: {} for engine in ENGINES}
    for line in EXPECTED.read_text().splitlines() if EXPECTED.exists() else []:
        if not line or line.startswith("#"):
            continue
        who, name, reason = re.fullmatch(r"(both|compiled|interpreter) (\S+): (.+)", line).groups()
        for engine in ENGINES if who == "both" else (who,):
            expected[engine][name] = reason
    return expected


def write_expected(expected):
    lines = ["# Tests of the onnx package that fail: engine, test, reason. See utils/operator_support.py."]
    for name in sorted(set().union(*expected.values())):
        reasons = {e: expected[e][name] for e in ENGINES if name in expected[e]}
        if len(reasons) == 2 and len(set(reasons.values())) == 1:
            reasons = {"both": reasons[ENGINES[0]]}
        lines += [f"{who} {name}: {reason}" for who, reason in reasons.items()]
    EXPECTED.write_text("\n".join(lines) + "\n")


REASONS = (("element type STRING", "tensors of strings"),
           ("no tensor but a sequence", "a sequence as an input or output of the model"),
           ("no tensor but an optional", "an optional as an input or output of the model"),
           ("sequence of strings", "tensors of strings"),
           (r"random|\(Bernoulli\)|\(RandomUniformLike\)", "random numbers"),
           (r"preview.training|\((Momentum|Adam|Adagrad)\)", "training"),
           (r"training.mode", "training"),
           ("is an unsupported operator", "not implemented"),
           ("ends the process", "a crash"))


def tidy(why):
    """A reason to begin with: the message without the parts that name the file and the node."""
    for pattern, reason in REASONS:
        if re.search(pattern, why):
            return reason
    why = re.sub(r"^\S*model\.onnx: ", "", why)
    why = re.sub(r'^node "[^"]*" \((\w+)\): ', r"\1: ", why)
    return why[:160] or "no message"


def judge(engine, results, expected):
    """Prints what is not as expected; returns how many tests that are."""
    wrong = 0
    for name, (state, _, why) in sorted(results.items()):
        if state != "pass" and name not in expected[engine]:
            wrong += 1
            print(f"{engine} {name}: {state}: {why}")
        elif state == "pass" and name in expected[engine]:
            wrong += 1
            print(f"{engine} {name}: passes, but is expected to fail: {expected[engine][name]}")
    return wrong


# --- the page ------------------------------------------------------------------------------------


def model_operators():
    """Operators of the models in ../shared, kept in a file for when they are absent."""
    shared = ROOT.parent / "shared/models"
    if shared.is_dir():
        import onnx
        found = set()

        def visit(graph):
            for node in graph.node:
                found.add(f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx")
                          else node.op_type)
                for attribute in node.attribute:
                    if attribute.HasField("g"):
                        visit(attribute.g)

        for path in sorted(shared.glob("*/**/*.onnx")):
            try:
                model = onnx.load(path, load_external_data=False)
            except Exception:  # files that are damaged on purpose
                continue
            visit(model.graph)
            for function in model.functions:
                visit(function)
        MODEL_OPERATORS.write_text("\n".join(sorted(found)) + "\n")
    return set(MODEL_OPERATORS.read_text().split())


def versions():
    """{operator: versions of its definition that a file of opset 7 or later can mean}"""
    from onnx import defs
    history = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            history.setdefault(schema.name, set()).add(schema.since_version)
    return {name: [v for v in sorted(since)
                   if v >= 7 or v == max((u for u in since if u <= 7), default=0)]
            for name, since in history.items()}


def share(names, expected):
    passed = sum(name not in expected for name in names)
    return f"{passed} of {len(names)} ({100 * passed / max(1, len(names)):.1f} %)"


HEADER = """# Supported operators

Generated by `utils/operator_support.py`; do not edit. The yardstick is the backend test collection of the
onnx package, version {version}: {total} tests of single operators, among them the expansions of operators
that ONNX defines by others. Every test is imported as it is, run by compiled code (`-O1`) and by the
reference interpreter (`--reference`), and compared with its expected values. What fails is listed in
`test/Operators/expected-failures.txt`; a test run is strict both ways.

| tests | compiled | interpreter |
|---|---|---|
"""
AFTER = """
*Inference on tensors of numbers* leaves out {left}.
*Operators of real models* are the {used} that occur in the project's collection of exported models and have
tests.

The column *versions* lists the versions of each operator's definition that a file of opset 7 or later
can refer to; the importer converts all of them to the newest. *Compiled* and *interpreter* count tests
passed of tests there are.

| operator | versions | compiled | interpreter | what fails |
|---|---|---|---|---|
"""


def page(index, expected, used):
    import importlib.metadata
    rows = [("all", list(index))]
    numbers = [name for name, test in index.items() if not test["category"]]
    rows.append(("inference on tensors of numbers", numbers))
    rows.append(("the same, operators of real models",
                 [name for name in numbers if index[name]["operator"] in used]))
    text = HEADER.format(version=importlib.metadata.version("onnx"), total=len(index))
    for title, names in rows:
        text += f"| {title} | {share(names, expected['compiled'])} | " \
                f"{share(names, expected['interpreter'])} |\n"
    kinds = [test["category"] for test in index.values() if test["category"]]
    left = ", ".join(f"{kinds.count(kind)} tests of {kind} values" if kind != "training" else
                     f"{kinds.count(kind)} of training" for kind in sorted(set(kinds)))
    by_operator = {}
    for name, test in index.items():
        by_operator.setdefault(test["operator"], []).append(name)
    text += AFTER.format(left=left, used=len(used & set(by_operator)))
    known = versions()
    for operator in sorted(set(by_operator) | set(known), key=str.lower):
        names = by_operator.get(operator, [])
        since = ", ".join(map(str, known.get(operator, [])))
        if not names:
            text += f"| {operator} | {since} | | | no tests |\n"
            continue
        counts = [f"{sum(n not in expected[e] for n in names)}/{len(names)}" for e in ENGINES]
        why = {}
        for name in names:
            for engine in ENGINES:
                if name in expected[engine]:
                    why.setdefault(expected[engine][name], set()).add(name)
        reasons = "; ".join(f"{reason} ({len(tests)})" for reason, tests in
                            sorted(why.items(), key=lambda item: -len(item[1])))
        text += f"| {operator} | {since} | {counts[0]} | {counts[1]} | {reasons.replace('|', '/')} |\n"
    return text


# --- commands ------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "update", "page"])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--level", type=int, default=1, help="of compiled code, as moec's -O")
    parser.add_argument("--every", type=int, default=1, help="run one test of N")
    parser.add_argument("--filter", default="", help="run the tests whose names match")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--check", action="store_true", help="compare the page, do not write it")
    parser.add_argument("--times", action="store_true", help="print the slowest tests")
    args = parser.parse_args()
    folder, index = cases(args.build)
    expected = read_expected()
    if args.command == "page":
        used = set(MODEL_OPERATORS.read_text().split())
        text = page(index, expected, used)
        if not args.check:
            PAGE.write_text(text)
        elif PAGE.read_text() != text:
            sys.exit(f"{PAGE.name} is out of date: run utils/operator_support.py page")
        return 0
    names = [name for name in sorted(index) if re.search(args.filter, name)][::args.every]
    wrong = 0
    for engine in [args.engine] if args.engine else ENGINES:
        start = time.time()
        results = run(args.build, engine, folder, names, args.jobs, args.level)
        if args.command == "update":
            failed = {n: why for n, (state, _, why) in results.items() if state != "pass"}
            expected[engine] = {n: expected[engine].get(n) or tidy(why) for n, why in failed.items()}
        wrong += judge(engine, results, expected)
        passed = sum(state == "pass" for state, _, _ in results.values())
        print(f"{engine}: {passed} of {len(results)} pass, {time.time() - start:.0f} s")
        if args.times:
            for name, (_, seconds, _) in sorted(results.items(), key=lambda r: -r[1][1])[:10]:
                print(f"  {seconds:.2f} s {name}")
    if args.command == "update":
        write_expected(expected)
        PAGE.write_text(page(index, expected, model_operators()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
