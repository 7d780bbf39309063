"""Ingest at the size of NTU-60 and NTU-120: clips a second, memory, disk, and what 1 % of new recordings costs.

    python -m benchmarks.scale --clips 56578 --folder /somewhere/large --raw RAW --names NAMES.txt.gz

Copies of few recordings with other low decimals (benchmarks/recording_copies.py) stand in for the real ones: give the
raw NTU recordings you have, or none for the generated sample set. Needs about 0.2 MB of disk a clip; 113,945 raw copies
take about an hour on two cores. Writes results/scale/<clips>.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import recording_copies
from benchmarks.hardware import ROOT, commit, hardware
from glt import artifact
from glt.reporter import ConsoleReporter, Silent

PADDED = 300 * 2 * 25 * 3 * 4  # bytes of a clip in the authors' padded array
NEW = 0.01  # share of recordings that come later
BATCH = 128


def main() -> None:
    """Make the copies, then measure each part in a process of its own."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--clips", type=int, required=True)
    arguments.add_argument("--folder", type=Path, required=True, help="where the copies go; emptied at the end")
    arguments.add_argument("--raw", type=Path, help="folder of raw .skeleton recordings to copy")
    arguments.add_argument("--names", type=Path, help="gzip of NTU's recording names")
    arguments.add_argument("--keep", action="store_true", help="leave the copies and stores where they are")
    arguments.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](given.folder)))
        return
    source, later = given.folder / "recordings", given.folder / "later"
    given.folder.mkdir(parents=True, exist_ok=True)
    contents = recording_copies.read_originals(given.raw, given.folder)
    chosen = recording_copies.recording_names(given.names, given.clips)
    fresh = max(1, round(NEW * given.clips))
    recording_copies.write(source, contents, chosen[:-fresh], ConsoleReporter())
    recording_copies.write(later, contents, chosen[-fresh:], ConsoleReporter(), first=given.clips - fresh)
    result: dict[str, Any] = {
        "clips": given.clips,
        "copied": "raw NTU recordings" if given.raw else "the sample set",
        "originals": len(contents),
        "text_bytes_a_clip": round(sum(map(len, contents)) / len(contents)),
        "archive_bytes": sum(file.stat().st_size for file in source.iterdir()),
    }
    for part in PARTS:
        if part == "grown":  # the new recordings arrive
            for file in later.iterdir():
                file.rename(source / f"later_{file.name}")
        result[part] = _run_in_process(given.folder, part)
        print(part, json.dumps(result[part]), flush=True)
    result["one_percent_costs"] = round(result["grown"]["seconds"] / result["ingest"]["seconds"], 4)
    result |= {"commit": commit(), "hardware": hardware(os.cpu_count() or 1)}
    artifact.write_json(ROOT / "results" / "scale" / f"{given.clips}.json", result)
    if not given.keep:
        shutil.rmtree(given.folder)


def _run_in_process(folder: Path, part: str) -> dict[str, Any]:
    """A part in a process of its own; the memory is that of all its processes together, shared pages once."""
    command = [sys.executable, "-m", "benchmarks.scale", "--clips", "0", "--folder", str(folder), "--part", part]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peak = _Peak(process.pid)
    stdout, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{part} failed")
    measured: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return {**measured, "peak_mib_all": round(peak.all / 2**20), "peak_mib_largest": round(peak.largest / 2**20)}


class _Peak:
    """The most memory that a process and those it started ever had: together (PSS), and the largest alone (RSS)."""

    def __init__(self, pid: int) -> None:
        self.all = self.largest = 0
        self._root = psutil.Process(pid)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                if self._root.status() == psutil.STATUS_ZOMBIE:
                    return
                infos = [process.memory_full_info() for process in (self._root, *self._root.children(recursive=True))]
            except psutil.NoSuchProcess:
                if not self._root.is_running():
                    return
                continue
            self.all = max(self.all, sum(info.pss for info in infos))
            self.largest = max(self.largest, *(info.rss for info in infos))
            time.sleep(0.1)


def _recipe() -> Any:
    from glt.recipe import parse

    data = {"dataset": "scale", "format": "ntu", "protocol": "xsub", "persons": 2}
    return parse({"name": "scale", "data": data, "motion": {"yaw": "first-frame"}}, "of the scale run")


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _ingest(folder: Path, out: str, segments: str) -> dict[str, Any]:
    from glt.data.clips import ClipStore
    from glt.data.ingest import ingest

    target = folder / out
    seconds = _timed(
        lambda: ingest(folder / "recordings", _recipe(), target, {"data_version": "x"}, Silent(), folder / segments)
    )
    store = ClipStore(target, verify=False)
    clips, frames = len(store.index), int(store.index["length"].sum())
    stored = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    return {
        "seconds": round(seconds, 2),
        "clips": clips,
        "rejected": len(store.rejected),
        "clips_per_s": round(clips / seconds, 1),
        "frames": frames,
        "bytes_a_clip": round(stored / clips),
        "share_of_padded": round(stored / (PADDED * clips), 4),
        "digest": store.digest,
        "segments": sorted(store.info["segments"]),
    }


def _part_ingest(folder: Path) -> dict[str, Any]:
    return _short(_ingest(folder, "clips", "segments"))


def _part_grown(folder: Path) -> dict[str, Any]:
    """New recordings beside the old."""
    before = _contents(folder / "clips")
    grown = _ingest(folder, "grown", "segments")
    after = _contents(folder / "grown")
    unchanged = all(after[name] == sha256 for name, sha256 in before.items())
    (folder / "grown.json").write_text(json.dumps(grown))
    return {**_short(grown), "old_segments_byte_for_byte": unchanged}


def _part_full(folder: Path) -> dict[str, Any]:
    """All of them at once, from nothing."""
    full, grown = _ingest(folder, "full", "other-segments"), json.loads((folder / "grown.json").read_text())
    shutil.rmtree(folder / "other-segments")
    shutil.rmtree(folder / "full")
    return {**_short(full), "same_digest_as_grown": full["digest"] == grown["digest"]}


def _part_analyse(folder: Path) -> dict[str, Any]:
    """Duplicates, balance and the summary for drift, as in the data report: of 99 %, then of 1 % more."""
    from glt.analysis.data_report import analyse_clips, write_data_report
    from glt.data.clips import ClipStore

    cache = folder / "near-duplicates.npz"
    first = _timed(lambda: analyse_clips(ClipStore(folder / "clips", verify=False), _recipe(), Silent(), cache=cache))
    store = ClipStore(folder / "grown", verify=False)
    started = time.perf_counter()
    analysis = analyse_clips(store, _recipe(), Silent(), cache=cache)
    seconds = time.perf_counter() - started
    write_data_report(folder / "page.html", store, _recipe(), analysis)
    return {
        "seconds": round(first, 2),
        "one_percent_more_s": round(seconds, 2),
        "with_page_s": round(time.perf_counter() - started, 2),
        "page_bytes": (folder / "page.html").stat().st_size,
        "near_duplicates": len(analysis.pairs),
    }


def _part_disentangle(folder: Path) -> dict[str, Any]:
    from glt.data.clips import ClipStore
    from glt.motion.disentangle import write_motions

    store = ClipStore(folder / "grown", verify=False)
    seconds = _timed(lambda: write_motions(store, _recipe(), folder / "motions", {"data_version": "x"}, Silent()))
    stored = sum(file.stat().st_size for file in (folder / "motions").rglob("*") if file.is_file())
    return {
        "seconds": round(seconds, 2),
        "clips_per_s": round(len(store.index) / seconds, 1),
        "bytes_a_clip": round(stored / len(store.index)),
    }


def _part_read(folder: Path) -> dict[str, Any]:
    """Read as training does: the first batch from files that are not in memory, then batches at random."""
    from glt.motion.disentangle import Motions

    for file in (folder / "motions").rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    random = np.random.default_rng(0)
    started = time.perf_counter()
    motions = Motions(folder / "motions", verify=False)
    opened = time.perf_counter() - started
    order = random.permutation(len(motions.index))
    motions.batch(order[:BATCH])
    first = time.perf_counter() - started
    count = min(len(order), 60 * BATCH)

    def turn() -> float:
        seconds = _timed(lambda: [motions.batch(order[at : at + BATCH]) for at in range(0, count, BATCH)])
        return round(count / seconds, 1)

    cold, warm = turn(), turn()
    return {
        "open_s": round(opened, 3),
        "first_batch_s": round(first, 3),
        "random_clips_per_s_cold": cold,
        "random_clips_per_s_warm": warm,
    }


def _short(run: dict[str, Any]) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(run["segments"]).encode()).hexdigest()
    return {**run, "segments": len(run["segments"]), "segments_sha256": digest}


def _contents(store: Path) -> dict[str, str]:
    return {name: sha256 for name, sha256 in artifact.files(store).items() if name.startswith("segments/")}


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ingest": _part_ingest,
    "grown": _part_grown,
    "full": _part_full,
    "analyse": _part_analyse,
    "disentangle": _part_disentangle,
    "read": _part_read,
}

if __name__ == "__main__":
    main()
