#!/usr/bin/env python3
"""Checks that every op, attribute, type and pass is documented, and that links in pages resolve.

Reads the TableGen files themselves (llvm-tblgen --dump-json). Every op and attribute definition
needs a summary and a description; ops of the moe dialect an example; every attribute of a moe op
must be named in its description; every pass needs a description with IR before and after, and every
option and statistic its text.
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
    own = file.parent.parent.name + "/" + file.parent.name
    count = 0

    def fault(name, what):
        faults.append(f"{file.relative_to(ROOT)}: {name}: {what}")

    for name in kinds.get("Op", []) + kinds.get("AttrDef", []) + kinds.get("TypeDef", []):
        record = data[name]
        if "Builtin" in name or record.get("!locs", [""])[0].startswith(str(LLVM)):
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
        if file.name.endswith(("Ops.td", "Passes.td")):
            count += check_file(file, faults)
    check_links(faults)
    print("\n".join(faults) or f"{count} ops, attributes and passes are documented")
    return 1 if faults else 0


sys.exit(main())
