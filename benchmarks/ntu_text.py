"""Speed of reading NTU's text format on one core: our parser against a plain per-line reader.

    python -m benchmarks.ntu_text [FOLDER]

FOLDER holds raw `.skeleton` recordings; without one the generated sample set is read. The limit is one pass over the
bytes (counting the line ends). Writes results/ntu-text.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import recording_copies
from benchmarks.hardware import ROOT, commit, hardware
from benchmarks.timing import time_in_turn
from glt import artifact
from glt.data.formats import ntu, ntu_text
from glt.reporter import ConsoleReporter

NAME = "S001C001P001R001A001.skeleton"
FILES = 10


def read_plain(content: bytes) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """frames [T, P', 25, 3] and present [T, P'], by Python's own means: a line, its words, a float each.

    Raises:
        ValueError, IndexError: the text is no recording.
    """
    lines = content.decode("ascii").splitlines()
    line = 0

    def words() -> list[str]:
        nonlocal line
        line += 1
        return lines[line - 1].split()

    frames: list[dict[str, list[list[float]]]] = []
    for _ in range(int(words()[0])):
        bodies: dict[str, list[list[float]]] = {}
        for _ in range(int(words()[0])):
            body = words()[0]
            joints = [[float(word) for word in words()] for _ in range(int(words()[0]))]
            bodies.setdefault(body, joints)
        frames.append(bodies)
    people = list(dict.fromkeys(body for bodies in frames for body in bodies))
    points = np.zeros((len(frames), len(people), 25, 3), np.float32)
    present = np.zeros((len(frames), len(people)), bool)
    for frame, bodies in enumerate(frames):
        for body, joints in bodies.items():
            person = people.index(body)
            points[frame, person] = np.array(joints)[:, :3]
            present[frame, person] = True
    return points, present


def main() -> None:
    """Measure in turn, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path, nargs="?")
    arguments.add_argument("--rounds", type=int, default=15)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        contents = recording_copies.read_originals(given.folder, Path(folder))[:FILES]
    for content in contents:
        expected, there = read_plain(content)
        found = ntu.read(NAME, content)
        assert (found.frames == expected).all()
        assert (found.present == there).all()
    functions = {
        "plain": lambda: [read_plain(content) for content in contents],
        "glt": lambda: [ntu.read(NAME, content) for content in contents],
        "glt, parser alone": lambda: [ntu_text.parse(content) for content in contents],
        "one pass over the bytes": lambda: [content.count(b"\n") for content in contents],
    }
    times = time_in_turn(functions, given.rounds, ConsoleReporter(), "ntu text")
    size, files = sum(map(len, contents)), len(contents)
    table = Table("reader", "ms a file", "MB/s", "times the plain one")
    rows = {}
    for name, timing in times.items():
        rows[name] = {"ms_a_file": round(1e3 * timing.best / files, 4), "mb_per_s": round(size / timing.best / 1e6, 1)}
        ratio = times["plain"].best / timing.best
        table.add_row(name, f"{rows[name]['ms_a_file']:.3f}", f"{rows[name]['mb_per_s']:.0f}", f"{ratio:.1f}")
    Console().print(table)
    result = {
        "readers": rows,
        "ratio": round(times["plain"].best / times["glt"].best, 2),
        "files": files,
        "bytes_a_file": round(size / files),
        "recordings": "raw NTU recordings" if given.folder else "the sample set",
        "commit": commit(),
        "hardware": hardware(1),
    }
    artifact.write_json(ROOT / "results" / "ntu-text.json", result)


if __name__ == "__main__":
    main()
