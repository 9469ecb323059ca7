#!/usr/bin/env python3
"""Checks that what the project defines is documented and tested.

- Every op and attribute definition in the TableGen files (read by llvm-tblgen --dump-json) has a
  summary and a description; ops of the moe dialect have an example, and their attributes are named
  in the description; passes have a description with IR before and after, and their options and
  statistics a text.
- The constraints that verifiers of lib/Dialect/MoE cite (`// select.C9`) are those that
  docs/moe-dialect.md numbers.
- Every message of a verifier in lib/Dialect is expected by a test.
- Links in pages lead somewhere.
- Pages in docs/reference are what utils/gen_docs.py makes (it is run with --check).
"""
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LLVM = pathlib.Path("/usr/lib/llvm-22")


def records(file):
    out = subprocess.run([LLVM / "bin/llvm-tblgen", "--dump-json", f"-I{ROOT / 'include'}",
                          f"-I{LLVM / 'include'}", f"-I{file.parent}", file],
                         capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"{file}: {out.stderr[:500]}")
    return json.loads(out.stdout)


def attribute_names(record, all_records):
    """Names of an op's arguments that are attributes."""
    for value, name in record.get("arguments", {}).get("args", []):
        kind = all_records.get(value.get("def", ""), {}) if isinstance(value, dict) else {}
        if "Attr" in kind.get("!superclasses", []) or "AttrConstraint" in kind.get("!superclasses", []):
            yield name


def check_file(file, faults):
    data = records(file)
    kinds = data["!instanceof"]
    count = 0

    def fault(name, what):
        faults.append(f"{file.relative_to(ROOT)}: {name}: {what}")

    for name in kinds.get("Op", []) + kinds.get("AttrDef", []) + kinds.get("TypeDef", []):
        record = data[name]
        # A location is the file's name and the line; definitions of included files have another.
        if not any(pathlib.Path(where).name.rsplit(":", 1)[0] == file.name
                   for where in record.get("!locs", [])):
            continue
        dialect = (record.get("opDialect") or record.get("dialect") or {}).get("def", "")
        if not dialect.lower().startswith(("moe", "onnx")):
            continue
        count += 1
        description = record.get("description") or ""
        if not record.get("summary"):
            fault(name, "no summary")
        if not description.strip():
            fault(name, "no description")
        if dialect.lower().startswith("moe") and name in kinds.get("Op", []):
            if "```" not in description:
                fault(name, "no example")
            for attribute in attribute_names(record, data):
                if attribute and attribute not in description:
                    fault(name, f"attribute '{attribute}' is not explained")
    for name in kinds.get("PassBase", []):
        record, count = data[name], count + 1
        description = record.get("description") or ""
        if not record.get("summary") or not description.strip():
            fault(name, "no summary or description")
        if description.count("```") < 2 or "After" not in description:
            fault(name, "no IR before and after")
        for part in record.get("options", []) + record.get("statistics", []):
            if not data[part["def"]].get("description"):
                fault(name, f"option or statistic {part['def']} has no text")
    return count


def check_constraints(faults):
    """Numbers in the verifiers' comments against the page's."""
    cited, page = set(), ROOT / "docs/moe-dialect.md"
    for file in sorted((ROOT / "lib/Dialect/MoE").glob("*.cpp")):
        for line in re.findall(r"// ([a-z_.]+\.C\d+(?:, [a-z_.]+\.C\d+)*)$", file.read_text(), re.M):
            cited.update(line.split(", "))
    numbered, name = set(), None
    for line in page.read_text().splitlines():
        if line.startswith("#"):
            heading = re.fullmatch(r"### `#?moe\.([a-z_.]+)`", line)
            name = heading and heading[1]
        elif name and (item := re.match(r"- (C\d+): ", line)):
            numbered.add(f"{name}.{item[1]}")
    faults += [f"docs/moe-dialect.md: {c} is checked but not numbered" for c in sorted(cited - numbered)]
    faults += [f"docs/moe-dialect.md: {c} is numbered but not checked" for c in sorted(numbered - cited)]


def messages(text):
    """The literal parts of the errors that C++ code emits."""
    for statement in re.findall(r"\bemit(?:Op)?Error\((.*?);", text, re.S):
        literals = re.sub(r'"\s*\n\s*"', "", statement)
        for literal in re.findall(r'"((?:[^"\\]|\\.)*)"', literals):
            yield literal.replace('\\"', '"').replace("\\\\", "\\")


def check_messages(faults):
    expected = ""
    for test in sorted((ROOT / "test").rglob("*.mlir")):
        expected += "\n".join(re.findall(r"expected-error.*", test.read_text())) + "\n"
    for file in sorted((ROOT / "lib/Dialect").rglob("*.cpp")):
        for message in messages(file.read_text()):
            if len(message.strip()) >= 6 and message.strip() not in expected:
                faults.append(f"{file.relative_to(ROOT)}: no test expects \"{message.strip()}\"")


def check_links(faults):
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if not page.exists():
            faults.append(f"{page.relative_to(ROOT)}: missing")
            continue
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                faults.append(f"{page.relative_to(ROOT)}: link to {target}, which does not exist")


def main():
    faults, count = [], 0
    for file in sorted((ROOT / "include/moec").rglob("*.td")):
        if file.name.endswith(("Ops.td", "Attrs.td", "Passes.td")):
            count += check_file(file, faults)
    check_constraints(faults)
    check_messages(faults)
    check_links(faults)
    run = subprocess.run([sys.executable, ROOT / "utils/gen_docs.py", "--check"],
                         capture_output=True, text=True)
    if run.returncode:
        faults.append(run.stderr.strip())
    print("\n".join(faults) or f"{count} ops, attributes and passes are documented")
    return 1 if faults else 0


sys.exit(main())
