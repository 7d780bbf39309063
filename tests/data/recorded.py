"""Recordings written for the tests, in the formats that the readers read."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glt.data.formats.sbu import PAIRS
from glt.recipe import Recipe, parse

Bodies = Sequence[Mapping[str, NDArray[np.float32]]]  # for each frame, body id -> positions [K, 3]


def skeleton(frames: Bodies, end: str = "\n") -> bytes:
    """The text of a .skeleton file."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, positions in bodies.items():
            lines += [f"{body} 0 1 1 1 1 0 0.1 -0.2 2", str(len(positions))]
            lines += [f"{x!r} {y!r} {z!r} 1 2 3 4 0 0 0 0 2" for x, y, z in positions.astype(float).tolist()]
    return (end.join(lines) + end).encode()


def walk(number: int, length: int = 5, joints: int = 25) -> NDArray[np.float32]:
    """Positions [length, joints, 3] that differ by number."""
    return np.random.default_rng(number).normal([0, 0, 3], 0.3, (length, joints, 3)).astype(np.float32)


def one_person(number: int, length: int = 5, joints: int = 25) -> bytes:
    """A .skeleton file of one person."""
    return skeleton([{"7205": positions} for positions in walk(number, length, joints)])


def nw_ucla(positions: NDArray[np.float32], label: int | None = 1) -> bytes:
    """The JSON of frames [T, 20, 3]."""
    fields = {"file_name": "x", "skeletons": positions.astype(float).tolist()}
    return json.dumps(fields if label is None else {**fields, "label": label}).encode()


def sbu(number: int, length: int = 4) -> bytes:
    """The text of a skeleton_pos.txt."""
    values = np.random.default_rng(number).uniform(0.1, 0.9, (length, 90))
    return "".join(f"{t + 1},{','.join(f'{v:.5g}' for v in row)}\n" for t, row in enumerate(values)).encode()


SBU_NAME = f"{PAIRS[0]}/01/001/skeleton_pos.txt"


def delivery(count: int = 8) -> dict[str, bytes]:
    """NTU files of subjects 1, 2, 3, ... by name."""
    return {f"day/S001C001P{p:03}R001A{1 + p % 2:03}.skeleton": one_person(p, 3 + p) for p in range(1, count + 1)}


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The files below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """The files in an archive, in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def recipe(format: str = "ntu", protocol: str = "xsub", **data: object) -> Recipe:
    """A recipe with this data section."""
    fields = {"dataset": "test", "format": format, "protocol": protocol, **data}
    return parse({"name": "test", "data": fields}, "of a test")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
