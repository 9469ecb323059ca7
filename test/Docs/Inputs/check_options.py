"""usage: check_options.py PAGE    every command of moec has a section, every option stands in the page"""
import pathlib
import re
import subprocess
import sys

page = pathlib.Path(sys.argv[1]).read_text()


def help_of(*words):
    return subprocess.run(["moec", *words, "--help"], capture_output=True, text=True, check=True).stdout


commands = re.findall(r"^  (\w+) +\S", help_of().split("SUBCOMMANDS", 1)[-1].split("Example:")[0], re.M)
missing = [f"section of {c}" for c in commands if f"\n## moec {c}\n" not in page]
options = set()
for command in commands:
    for line in help_of(command).splitlines():
        if re.match(r"\s+-", line):
            options |= set(re.findall(r"(?<!\S)--?[A-Za-z][\w-]*", line[:40]))
options -= {"-h", "--help"}
missing += [o for o in sorted(options) if not re.search(rf"`{o}\b", page)]
print(f"{len(commands)} commands, {len(options)} options;", "missing: " + ", ".join(missing) if missing else "all there")
sys.exit(bool(missing) or len(options) < 20)
