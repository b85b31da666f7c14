"""Programs that are started here never outlive the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The signal comes at the worst moment: the program runs, and nobody has its handle yet.
SCRIPT = """
import os, signal, subprocess
from pathlib import Path
from flow import tools
popen, made = subprocess.Popen, []
def interrupted(*args, **kwargs):
    made.append(popen(*args, **kwargs))
    os.kill(os.getpid(), signal.SIGINT)
    return made[0]
subprocess.Popen = interrupted
try:
    tools.run(["sleep", "60"], Path("."), Path("log"))
except KeyboardInterrupt:
    print("stopped", made[0].poll())
"""


def test_a_signal_while_a_program_starts_leaves_none_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "stopped -9\n", done.stderr
