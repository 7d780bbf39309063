"""NTU RGB+D: one ``SsssCcccPpppRrrrAaaa.skeleton`` text file a recording, Kinect v2, 25 joints.

The file holds the number of frames; a frame holds the number of bodies; a body holds a line of ten values that starts
with the id under which the sensor tracked it, the number of joints, and a line of twelve values a joint, metres first.
A name without ``Aaaa`` is a recording without label; ``-n`` may tell apart several of one setup.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import numpy as np

from glt.data.formats.format import Format, one
from glt.data.layouts import NTU25
from glt.data.recording import Recording, Rejection

NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})(A\d{3})?(-\d+)?\.skeleton", re.ASCII)
_BODY_VALUES = 10
_JOINT_VALUES = 12
_BODIES = 100  # ids a file may hold; damage must not cost memory


def read(name: str, content: bytes) -> Recording:
    """One body id is one person, in the order in which the ids appear.

    Raises:
        Rejection: the name is not NTU's, or the text is damaged or cut off.
    """
    file = PurePosixPath(name).name
    match = NAME.fullmatch(file)
    if match is None:
        raise Rejection("name", "expected SsssCcccPpppRrrrAaaa.skeleton (Aaaa only if labelled)")
    setup, camera, subject, replication = (int(number) for number in match.groups()[:4])
    lines = _Lines(content)
    warnings: list[str] = []
    frames = [_frame(lines, warnings) for _ in range(lines.count("frames"))]
    lines.end()
    bodies = {body: person for person, body in enumerate(dict.fromkeys(body for frame in frames for body in frame))}
    if len(bodies) > _BODIES:
        raise Rejection("format", f"{len(bodies)} body ids, a sensor gives a few")
    joints = len(next((positions for frame in frames for positions in frame.values()), ()))
    recording = np.zeros((len(frames), len(bodies), joints, 3), np.float32)
    present = np.zeros((len(frames), len(bodies)), bool)
    for number, frame in enumerate(frames):
        for body, positions in frame.items():
            if len(positions) != joints:
                raise Rejection("joints", f"{joints} joints in one frame, {len(positions)} in frame {number + 1}")
            with np.errstate(over="ignore"):  # the check of finite coordinates says it better
                recording[number, bodies[body]] = positions
            present[number, bodies[body]] = True
    return Recording(
        name=file.removesuffix(".skeleton"),
        frames=recording,
        present=present,
        skeleton=NTU25,
        label=match[5],
        subject=subject,
        camera=camera,
        setup=setup,
        replication=replication,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _frame(lines: _Lines, warnings: list[str]) -> dict[str, list[tuple[float, float, float]]]:
    bodies: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(lines.count("bodies")):
        body, *_ = lines.values("body", _BODY_VALUES)
        positions = []
        for _ in range(lines.count("joints")):
            x, y, z, *_ = lines.values("joint", _JOINT_VALUES)
            positions.append(lines.metres(x, y, z))
        if body in bodies:
            warnings.append(f"body {body} twice in a frame: the first is kept")
        else:
            bodies[body] = positions
    return bodies


class _Lines:
    """The lines of a file, with LF or CRLF ends, read one after the other."""

    def __init__(self, content: bytes) -> None:
        try:
            self._lines = content.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise Rejection("format", "not a text file") from None
        self._next = 0

    def values(self, what: str, count: int) -> list[str]:
        if self._next >= len(self._lines):
            raise Rejection("format", f"cut off: ends at line {self._next} where a {what} should follow")
        values = self._lines[self._next].split()
        self._next += 1
        if len(values) != count:
            raise Rejection("format", f"line {self._next}: {len(values)} values, a {what} line has {count}")
        return values

    def count(self, what: str) -> int:
        (value,) = self.values(f"number of {what}", 1)
        # Every frame, body and joint takes a line, so a larger number is damage: it must not cost memory.
        if not value.isdigit() or len(value) > 9 or int(value) > len(self._lines):
            raise Rejection("format", f"line {self._next}: {value[:20]!r} is not a number of {what}")
        return int(value)

    def metres(self, x: str, y: str, z: str) -> tuple[float, float, float]:
        try:
            return float(x), float(y), float(z)
        except ValueError:
            raise Rejection("format", f"line {self._next}: the first three values are not coordinates") from None

    def end(self) -> None:
        if any(line.strip() for line in self._lines[self._next :]):
            raise Rejection("format", f"goes on after its last frame, at line {self._next + 1}")


FORMAT = Format(version=1, suffixes=(".skeleton",), read=one(read), skeleton=NTU25)
