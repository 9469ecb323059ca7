"""usage: check_systems.py ROOT    what docs/systems.md says of a case is what docs/models.md shows"""
import pathlib
import re
import sys

docs = pathlib.Path(sys.argv[1]) / "docs"
shown = {}
for line in (docs / "models.md").read_text().splitlines():
    cells = [c.strip() for c in line.strip("|").split("|")]
    if len(cells) == 7 and "/" in cells[0]:
        shown[cells[0]] = (cells[1], cells[2])
faults, rows = [], 0
for line in (docs / "systems.md").read_text().splitlines():
    cells = [c.strip() for c in line.strip("|").split("|")]
    cases = re.findall(r"(?:architectures|exporters|transformers)/[\w-]+", line)
    if not cases:
        continue
    rows += 1
    for case in cases:
        layers, result = shown.get(case, ("", "no row"))
        if result != "verified":
            faults.append(f"{case}: {result}")
    state = cells[2] if len(cells) == 4 else "compiled"
    raised = any(not shown.get(c, ("0",))[0].startswith(("0", "-")) for c in cases)
    if state not in ("raised", "compiled") or (state == "raised") > raised:
        faults.append(f"{cells[0]}: said to be {state!r}, {'some' if raised else 'no'} layer is raised")
print("\n".join(faults))
print(f"{rows} rows, {len(faults)} faults")
sys.exit(bool(faults))
