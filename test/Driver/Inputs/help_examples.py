"""usage: help_examples.py ROOT    runs the example in the --help of every sub-command of moec

Each runs in a scratch folder that shows the project's examples.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

root = pathlib.Path(sys.argv[1])


def help_of(*words):
    return subprocess.run(["moec", *words, "--help"], capture_output=True, text=True, check=True).stdout


commands = re.findall(r"^  (\w+) +\S", help_of().split("SUBCOMMANDS", 1)[-1].split("Example:")[0], re.M)
failed = len(commands) < 7
print(len(commands), "commands:", *commands)
for command in commands:
    example = re.search(r"Example:\s*\n\s*(moec \w+ .*)", help_of(command))
    if not example or example[1].split()[1] != command:
        print(f"FAILED {command}: --help shows no example of it")
        failed = True
        continue
    with tempfile.TemporaryDirectory() as scratch:
        os.symlink(root / "examples", pathlib.Path(scratch) / "examples")
        run = subprocess.run(["bash", "-c", example[1]], cwd=scratch, capture_output=True, text=True)
    print("ok    " if run.returncode == 0 else f"FAILED ({run.returncode})", example[1])
    if run.returncode:
        print(run.stdout[-2000:], run.stderr[-2000:])
        failed = True
sys.exit(failed)
