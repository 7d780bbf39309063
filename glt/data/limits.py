"""Bounds on the content of recordings' files, the same for all formats, checked before anything is allocated.

A recording of `POINTS` takes 60 MB, and reading and checking it under 500 MB.
"""

from __future__ import annotations

from collections.abc import Sequence

from glt import text

FRAMES = 500_000  # of a recording: more than four hours at 30 frames a second
PERSONS = 100  # in a recording
JOINTS = 600  # of a layout
POINTS = 5_000_000  # frames x persons x joints of a recording
UNPACKED = 200 << 20  # bytes of all arrays of an NPZ, of all columns of a Parquet file
TEXT = 500  # characters of a name, a label or a split
PATH = 4096  # characters of a file's path
SIDECAR = 16 << 20  # bytes of labels.csv
LAYOUT = 256 << 10  # bytes of a layout's text
RATES = (0.1, 10_000.0)  # frames a second of a layout
SPLITS = 100  # splits that list a recording
LARGEST_NUMBER = 2**63 - 1  # of a subject, a camera, a label
IMAGE = 1 << 20  # pixels, height or width of an image


def too_large(shape: Sequence[int]) -> str:
    """The reason why frames of this shape [T, P, K, ...] are not read; empty if they are.

    A shape with zero persons or joints is bounded too: arrays made from it need not be empty.
    """
    frames, persons, joints = (*shape, 1, 1, 1)[:3]
    for count, most, what in ((frames, FRAMES, "frames"), (persons, PERSONS, "persons"), (joints, JOINTS, "joints")):
        if count > most:
            return f"{shown((count,))} {what}, more than {most}"
    if frames * persons * joints > POINTS:
        return f"{frames} frames, {persons} persons, {joints} joints: more than {POINTS} points; cut it into recordings"
    return ""


def shown(shape: Sequence[int]) -> str:
    """A shape for a message; numbers in a file may have thousands of digits."""
    numbers = [str(n) if abs(n) < 1 << 63 else "over 10^18" for n in shape[:6]]
    return ", ".join((*numbers, "...") if len(shape) > 6 else numbers)


def stored_text(given: str, what: str) -> tuple[str, str]:
    """The stored form of a text, and the reason why it is rejected; the reason is empty if it is accepted."""
    if len(given) > TEXT:
        return "", f"{what} of {len(given)} characters, more than {TEXT}"
    return text.clean(given).strip(), ""
