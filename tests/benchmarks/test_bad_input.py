from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.fault(
    "a recording that is damaged in one of more than 80 ways",
    "rejected with its reason, without a crash, a hang or much memory",
)
def test_every_bad_recording_is_rejected_without_a_crash_a_hang_or_much_memory() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.bad_input"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n| ") > 80
