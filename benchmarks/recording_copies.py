"""Many recordings made from few: copies of `.skeleton` files with new random low decimals, in one zip per setup.

A copy is as long and as hard to parse and to compress as its original, and no two hold the same numbers.
"""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray

from glt.data import sample
from glt.reporter import Reporter

_COORDINATE = re.compile(rb"(?m)^(-?\d\.\d{3}(\d+)) (-?\d\.\d{3}(\d+)) (-?\d\.\d{3}(\d+))(?= )")


class Original:
    """A recording, and the offsets of the digits of its coordinates below a millimetre."""

    def __init__(self, content: bytes) -> None:
        """Parse a file with at least one body."""
        self.content = np.frombuffer(content, np.uint8)
        self.low = np.concatenate(
            [np.arange(*match.span(group)) for match in _COORDINATE.finditer(content) for group in (2, 4, 6)]
        )

    def copy(self, seed: int) -> NDArray[np.uint8]:
        """Make a copy with new low decimals; equal seeds give equal bytes."""
        digits = np.random.default_rng(seed).integers(ord("0"), ord("9") + 1, len(self.low), np.uint8)
        content = self.content.copy()
        content[self.low] = digits
        return content


def read_originals(raw: Path | None, folder: Path) -> list[bytes]:
    """Read what is copied: the raw recordings in a folder that show somebody, or the generated sample set."""
    if raw is not None:
        contents = [file.read_bytes() for file in sorted(raw.glob("*.skeleton"))]
    else:
        archive = folder / sample.ARCHIVE
        sample.write_sample(archive)
        with zipfile.ZipFile(archive) as opened:
            contents = [opened.read(name) for name in sorted(opened.namelist())]
    return [content for content in contents if _COORDINATE.search(content)]


def recording_names(lists: Path | None, count: int) -> list[str]:
    """Names of recordings: the first of NTU's own list (a gzip, a name a line), or made up in the same way."""
    if lists is not None:
        names = gzip.decompress(lists.read_bytes()).decode().split()
    else:
        names = [
            f"S{s:03}C{c:03}P{p:03}R{r:03}A{a:03}"
            for s in range(1, 33)
            for c in (1, 2, 3)
            for p in range(1, 9)
            for r in (1, 2)
            for a in range(1, 121)
        ]
    if len(names) < count:
        raise ValueError(f"{count} names asked for, {len(names)} there")
    return sorted(names)[:count]


def write(
    folder: Path, contents: Sequence[bytes], chosen: Sequence[str], reporter: Reporter, first: int = 0
) -> list[Path]:
    """One zip a setup, as NTU ships them: ``nturgbd_skeletons_s001.zip`` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    setups = [(setup, list(group)) for setup, group in groupby(chosen, lambda name: name[:4])]
    jobs, start = [], first
    for setup, group in setups:
        path = folder / f"nturgbd_skeletons_{setup.lower()}.zip"
        jobs.append(joblib.delayed(_zip)(path, contents, group, start))
        start += len(group)
    written = []
    for path in joblib.Parallel(n_jobs=-1, return_as="generator")(jobs):
        written.append(path)
        reporter.progress("copies", len(written), len(setups))
    return written


def _zip(path: Path, contents: Sequence[bytes], group: Sequence[str], start: int) -> Path:
    originals = [Original(content) for content in contents]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for seed, name in enumerate(group, start):
            archive.writestr(
                f"nturgb+d_skeletons/{name}.skeleton", originals[seed % len(originals)].copy(seed).tobytes()
            )
    return path
