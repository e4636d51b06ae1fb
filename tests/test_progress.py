"""Progress: a bar on a terminal, a line now and then in a log."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

WORK = """
import sys, time
import openmmcg.progress
from openmmcg.progress import tqdm

openmmcg.progress._SECONDS = float(sys.argv[1])
disable, leave = eval(sys.argv[2])
start = time.monotonic()
with tqdm(total=10**6, desc="sampling", unit="frame", disable=disable, leave=leave) as bar:
    while time.monotonic() < start + 0.5:
        bar.update()
        bar.set_postfix_str(f"{bar.n} K")
for _ in tqdm(range(3), "counting", disable=disable, leave=leave):
    pass
"""


def work(seconds, disable=False, leave=True):
    return [sys.executable, "-c", WORK, str(seconds), str((disable, leave))]


@pytest.mark.parametrize(
    ("options", "fewest", "most"),
    [
        ({"seconds": 60}, 2, 2),  # one at the end of each
        ({"seconds": 60, "leave": False}, 0, 0),
        ({"seconds": 0.1}, 4, 7),
        ({"seconds": 0.1, "leave": False}, 3, 6),
        ({"seconds": 0.1, "disable": True}, 0, 0),
    ],
)
def test_a_log_gets_whole_lines_now_and_then(options, fewest, most):
    log = subprocess.run(work(**options), capture_output=True, text=True, check=True).stderr
    lines = log.splitlines()
    assert fewest <= len(lines) <= most and len(log) < 1000 and "\r" not in log
    assert all(line.startswith(("sampling: ", "counting: ")) and "frame" in line or "3/3" in line for line in lines)
    if options["seconds"] == 60 and lines:
        assert lines[1].startswith("counting: 100%")


def test_a_terminal_gets_a_bar():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(work(60), stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # which is how this end learns that the other is closed
        while part := os.read(ours, 100_000):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    assert shown.count(b"\rsampling: ") > 3 and b"\rcounting: 100%" in shown
