"""Short NTU `.skeleton` files, written by hand: what the tests of bad input start from."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

RECIPE = {
    "name": "bad-input",
    "data": {"dataset": "bad-input", "format": "ntu", "protocol": "xsub"},
    "model": {"max_frames": 16, "head_dim": 1, "heads": 2, "depth": 1},
    "pretrain": {"epochs": 1, "batch": 8},
    "probe": {"epochs": 2},
    "finetune": {"epochs": 1},
}


def name(subject: int, *, action: int | None = 1, take: int = 1) -> str:
    """NTU's file name; subjects 1, 2, 4, 5 train, subject 3 tests. Without an action the recording is unlabelled."""
    what = f"-{take:03d}" if action is None else f"A{action:03d}"
    return f"S001C001P{subject:03d}R{take:03d}{what}.skeleton"


def text(frames: int = 20) -> str:
    """One body of 25 joints that walks, in another way for every number of frames."""
    lines = [str(frames)]
    for time in range(frames):
        lines += ["1", "72057594037944738 0 1 1 1 1 0 0.1 0.2 2", "25"]
        for joint in range(25):
            x, y, z = 0.1 + 0.01 * time * (1 + joint % 3), 0.05 * joint - 0.4, 2.5 + 0.003 * time * joint
            x += 0.05 * math.sin(0.3 * time + joint * frames)
            lines.append(f"{x:.4f} {y:.4f} {z:.4f} 0 0 0 0 0 0 0 0 2")
    return "\n".join(lines) + "\n"


def write(archive: Path, files: Mapping[str, str]) -> None:
    """A zip of these files."""
    with zipfile.ZipFile(archive, "w") as stream:
        for file, content in files.items():
            stream.writestr(file, content)
