"""usage: count_diagnostic_tests.py TESTS    fails when less than 25 % of the .mlir tests check diagnostics"""
import pathlib
import re
import sys

tests = [f.read_text() for f in pathlib.Path(sys.argv[1]).rglob("*.mlir") if "RUN:" in f.read_text()]
checks = sum(bool(re.search(r"verify-diagnostics|expected-(error|remark|warning)|not moe-opt|%exit-code", t))
             for t in tests)
print(f"{checks} of {len(tests)} .mlir tests check diagnostics")
sys.exit(not tests or checks * 4 < len(tests))
