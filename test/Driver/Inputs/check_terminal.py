"""usage: check_terminal.py COMMAND...

Runs a command whose stderr is a terminal: its stages are numbered up to the total, and steps of them are shown.
"""
import os
import pty
import re
import subprocess
import sys

terminal, stderr = pty.openpty()
run = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=stderr)
os.close(stderr)
text = b""
while True:
    try:
        part = os.read(terminal, 4096)
    except OSError:  # the other end is closed
        break
    if not part:
        break
    text += part
print("exit code", run.wait())
lines = text.decode().replace("\r\n", "\n").splitlines()
ended = [re.match(r"\[(\d+)/(\d+)\]", line.split("\r")[-1].replace("\33[K", "")) for line in text.decode().split("\r\n")
         if " s  peak " in line]
numbers = [tuple(map(int, match.groups())) for match in ended if match]
whole = numbers == [(i + 1, len(numbers)) for i in range(len(numbers))] and len(numbers) == len(ended)
print("ok" if whole else "FAILED", "stages:", numbers)
steps = re.findall(r"\r\[\d+/\d+\] ([a-z ]*?) +(\d+) of (\d+)", text.decode())
good = bool(steps) and all(int(n) <= int(of) for _, n, of in steps)
print("ok" if good else "FAILED", "steps of:", ", ".join(dict.fromkeys(name for name, _, _ in steps)))
