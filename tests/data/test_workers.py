"""A file that hangs, grows or ends its process is rejected; the others are taken, and nothing is left behind."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from glt.data import worker_process, workers
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.data.machine import MachineFailure, raise_machine_failure
from glt.data.recording import Recording, Rejection
from glt.data.sources import Chunk
from glt.data.workers import CHUNK, Readers
from glt.recipe import DataConfig
from glt.reporter import Silent
from tests.data import recorded

read = worker_process.read


def misbehave(chunk: Chunk, data: DataConfig, memory: int, spool: Path, any_name: bool = False) -> bytes:
    """What a worker does with a chunk, if the names of files say what they do to it."""
    worker_process.limit_memory(memory)
    for name in chunk.batch.names:
        for fault, act in FAULTS.items():
            if fault in name:
                act()
    return read(chunk, data, memory, spool, any_name)


def hang() -> None:
    sum(itertools.repeat(0))  # never returns to Python, so that only a signal ends it


def grow() -> None:
    held = []
    while True:
        held.append(bytes(64 << 20))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fail_to_read() -> None:
    raise_machine_failure(OSError(errno.EIO, "Input/output error"), "day/io.skeleton")


FAULTS = {"hang": hang, "grow": grow, "kill": kill, "crash": crash, "fail": fail_to_read}


@pytest.fixture
def _misbehaving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "read", misbehave)
    monkeypatch.setenv("GLT_FILE_SECONDS", "2")
    monkeypatch.setenv("GLT_FILE_MEMORY", "200")


def store(folder: Path, files: dict[str, bytes], processes: int = 2) -> ClipStore:
    recorded.write_folder(folder / "in", files)
    ingest(folder / "in", recorded.recipe(), folder / "out", {}, Silent(), folder / "segments", processes)
    return ClipStore(folder / "out")


@pytest.mark.fault("a file that hangs its reader", "its worker is killed and the file rejected; the others are taken")
@pytest.mark.fault("a file that makes its reader use ever more memory", "rejected at the limit; the others are taken")
@pytest.mark.fault("a file that crashes its reader", "rejected; the others are taken")
@pytest.mark.usefixtures("_misbehaving")
def test_a_file_that_misbehaves_is_rejected_and_the_others_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CHUNK", 4)
    good = {f"S001C001P{p:03}R001A001.skeleton": recorded.one_person(p) for p in range(1, 20)}
    bad = {"a-hang.skeleton": "time", "T-grow.skeleton": "memory", "S001C001P010-kill.skeleton": "memory"}
    bad["z-crash.skeleton"] = "crash"
    clips = store(tmp_path, {**good, **dict.fromkeys(bad, b"1")})
    assert dict(zip(clips.rejected["source"], clips.rejected["check"], strict=True)) == bad
    assert clips.index["source"].tolist() == sorted(good)
    assert clips.info["account"] == {"seen": len(good) + 4, "taken": len(good), "rejected": 4, "left_out": 0}
    reasons = dict(zip(clips.rejected["check"], clips.rejected["reason"], strict=True))
    assert reasons["time"] == "not read within 2 s; if the file is valid, raise GLT_FILE_SECONDS"
    assert "SIGSEGV" in reasons["crash"]
    assert "raise GLT_FILE_MEMORY" in reasons["memory"]


@pytest.mark.usefixtures("_misbehaving")
def test_a_file_that_was_too_slow_is_tried_again_by_the_next_ingest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"S001C001P001R001A001.skeleton": recorded.one_person(1), "S001C001P002R001A001-1.skeleton": b"hang"}
    files = {**files, "S001C001P003R001A001.skeleton": recorded.one_person(3)}
    recorded.write_folder(tmp_path / "in" / "hang", {"S001C001P004R001A001.skeleton": recorded.one_person(4)})
    assert len(store(tmp_path, files).index) == 2
    monkeypatch.setattr(worker_process, "read", read)
    assert len(store(tmp_path, files).index) == 3


@pytest.mark.usefixtures("_misbehaving")
def test_an_input_output_error_in_a_worker_stops_the_ingest(tmp_path: Path) -> None:
    files = {**recorded.delivery(2), "fail.skeleton": b"1"}
    with pytest.raises(MachineFailure, match=r"io\.skeleton: cannot be read \(Input/output error\)"):
        store(tmp_path, files)


def test_results_that_are_larger_than_a_message_go_through_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded.write_folder(tmp_path / "in", recorded.delivery(6))
    monkeypatch.setattr(worker_process, "_SEGMENT", 5000)
    chunk = next(iter(listed(tmp_path / "in").chunks(CHUNK)))
    packed = worker_process.read(chunk, recorded.recipe().data, 1 << 40, tmp_path / "spool")
    assert (tmp_path / "spool").stat().st_size > 10_000
    results = list(worker_process.unpack(packed, tmp_path / "spool"))
    assert [name for name, _ in results] == sorted(recorded.delivery(6))
    assert all(isinstance(one, Recording) and len(one.frames) == 4 + n for n, (_, one) in enumerate(results))


def listed(folder: Path):  # type: ignore[no-untyped-def]
    from glt.data.listing import Names, list_recordings

    (batch,) = list_recordings(folder, Names((".skeleton",))).batches
    return batch


def test_a_reader_that_is_not_used_to_its_end_leaves_nothing(tmp_path: Path) -> None:
    recorded.write_folder(tmp_path / "in", recorded.delivery(6))
    with Readers(recorded.recipe().data) as readers:
        results = readers.read(listed(tmp_path / "in"), tmp_path)
        name, _ = next(results)
        results.close()
        assert name == sorted(recorded.delivery(6))[0]
        again = [(name, [type(one) for one in those]) for name, those in readers.read(listed(tmp_path / "in"))]
        assert again == [(name, [Recording]) for name in sorted(recorded.delivery(6))]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_workers_that_cannot_start_are_a_failure_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "start", kill)
    recorded.write_folder(tmp_path, recorded.delivery(1))
    with (
        Readers(recorded.recipe().data) as readers,
        pytest.raises(MachineFailure, match="processes that read recordings cannot be started"),
    ):
        list(readers.read(listed(tmp_path)))


@pytest.mark.fault("a run that is killed while a worker hangs", "no process is left behind")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent_even_if_they_hang(tmp_path: Path, how: signal.Signals) -> None:
    recorded.write_folder(tmp_path / "in", {"hang.skeleton": b"1"})
    code = f"""
from pathlib import Path
from glt.data import worker_process
from tests.data import test_workers
worker_process.read = test_workers.misbehave
test_workers.store(Path({str(tmp_path)!r}), {{}})
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    family = wait_for_busy_worker(psutil.Process(process.pid))
    process.send_signal(how)
    process.wait(20)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def wait_for_busy_worker(parent: psutil.Process) -> list[psutil.Process]:
    """All processes below one, as soon as one of them hangs."""
    for _ in range(600):
        family = parent.children(recursive=True)
        for one in family:
            one.cpu_percent()
        time.sleep(0.3)
        if any(
            one.cpu_percent() > 20 and "forkserver" in one.cmdline()[-1] and one.ppid() != parent.pid for one in family
        ):
            return family
    raise AssertionError("no worker is busy")


def test_rejections_pass_between_processes(tmp_path: Path) -> None:
    recorded.write_folder(tmp_path, {"S001C001P001R001A001.skeleton": b"1\n"})
    with Readers(recorded.recipe().data) as readers:
        ((name, (rejection,)),) = [(name, list(those)) for name, those in readers.read(listed(tmp_path))]
    assert isinstance(rejection, Rejection)
    assert (name, rejection.check) == ("S001C001P001R001A001.skeleton", "format")
