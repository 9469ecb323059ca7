"""usage: snippets.py PAGE SOURCE...: fails unless each code block of the page is in a source."""
import re
import sys


def normal(text):
    return " ".join(text.split())


page = open(sys.argv[1]).read()
sources = [normal(open(name).read()) for name in sys.argv[2:]]
blocks = re.findall(r"^```(?:c|cpp)\n(.*?)^```", page, re.S | re.M)
for block in blocks:
    # A line of three dots stands for code that is left out.
    for part in re.split(r"^\s*\.\.\.\s*$", block, flags=re.M):
        if not any(normal(part) in source for source in sources):
            sys.exit(f"in no example:\n{part}")
print(len(blocks), "blocks found")
