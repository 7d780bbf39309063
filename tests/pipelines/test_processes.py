"""Steps as processes: told to end they all end, and awkward paths reach them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kfp.local.status import Status

from pipelines.processes import ProcessTask

# A run of two steps at once, each with a child, which write their process ids, and what they are told.
RUN = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from pipelines import processes

processes.GRACE = float(sys.argv[2])
step = '''
trap 'echo saved >>"$0.said"; trap - TERM; kill %1; exit 3' TERM
echo $$ >>"$0"
sh -c 'echo $$ >>"$0"; echo ready; exec sleep 60' "$0" &
wait
'''
if sys.argv[3] == "deaf":
    step = step.replace("trap", "trap '' TERM #", 1)
with processes.process_tasks() as ending:
    try:
        submitted = Event()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(submitted.wait)
            done = [pool.submit(processes.run_process, ["sh", "-c", step, sys.argv[1]], {}) for _ in range(3)]
            submitted.set()
            for one in done:
                print("ended with", one.result())
    except KeyboardInterrupt:
        print("interrupted by", ending.signal.name, flush=True)
print("after", [one.result() for one in done])
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.fault(
    "SIGTERM, Ctrl-C or a closed terminal while a graph runs", "its steps save their state and end; no process is left"
)
@pytest.mark.parametrize(
    ("number", "kind", "grace"), [("SIGTERM", "hears", 30), ("SIGINT", "hears", 30), ("SIGHUP", "deaf", 0.2)]
)
def test_no_step_outlives_its_run(tmp_path: Path, number: str, kind: str, grace: float) -> None:
    pids = tmp_path / "pids"
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(pids), str(grace), kind], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.send_signal(getattr(signal, number))
        out = run.stdout.read()
        assert run.wait(30) == 0
    assert f"interrupted by {number}" in out
    first, *later = [int(code) for code in out.rpartition("after [")[2].strip("]\n").split(", ")]
    assert (first, later) == (3 if kind == "hears" else -9, [143, 143])  # the next ones were not started
    assert (tmp_path / "pids.said").exists() == (kind == "hears")
    step_pids = [int(pid) for pid in pids.read_text().split()]
    assert len(step_pids) == 2
    until = time.monotonic() + 10
    while any(map(alive, step_pids)):
        assert time.monotonic() < until
        os.sched_yield()


@pytest.mark.fault("spaces, quotes or `python3` in the path of the checkout or the recordings", "everything runs")
def test_paths_reach_a_step_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interpreter = tmp_path / 'it\'s $(a) "python3" `here`' / "python"
    interpreter.parent.mkdir()
    interpreter.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    task = ProcessTask.__new__(ProcessTask)
    task.env_vars = {}
    task.full_command = ["sh", "-ec", 'exec python3 -m executor "$0" "$@"', "source", "/data/python3/$(a) 'b'"]
    assert task.run() is Status.SUCCESS
    assert capsys.readouterr().out == "-m|executor|source|/data/python3/$(a) 'b'|\n\n"
