"""The text of an NTU RGB+D `.skeleton` file, parsed in one compiled pass over its bytes.

Coordinates are exact to the last bit: a number with digits up to 2^53 and at most 22 decimal places is one correctly
rounded division of two exact doubles (Clinger 1990), hence equal to Python's float; all others are parsed by Python.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BODY_VALUES, JOINT_VALUES = 10, 12

# Kinds of faults of a text.
OK, CUT_OFF, VALUES, COUNT, GOES_ON, COORDINATE = range(6)
# Kinds of lines.
FRAMES, BODIES, BODY, JOINTS, JOINT = range(5)
WHAT = ("number of frames", "number of bodies", "body", "number of joints", "joint")
EXPECTED = (1, 1, BODY_VALUES, 1, JOINT_VALUES)

_POWERS = np.array([10.0**power for power in range(23)])


@dataclass(frozen=True)
class Fault:
    """The first fault of a text.

    Attributes:
        kind: one of CUT_OFF, ..., COORDINATE.
        line: its number, from 1.
        what: the kind of line that was expected: FRAMES, ..., JOINT.
        values: how many values the line has.
        start, end: position of the faulty token in the text, bytes.
    """

    kind: int
    line: int
    what: int
    values: int
    start: int
    end: int


@dataclass(frozen=True)
class Bodies:
    """The n bodies of all frames, one after the other.

    Attributes:
        frames: number of frames in the file.
        frame: int [n], the frame of each body, from 0.
        ids: int [n, 2], start and end of the body's id in the text, bytes.
        first: int [n + 1], index of the body's first joint in `points`.
        points: float32 [sum of joints, 3].
    """

    frames: int
    frame: NDArray[np.int64]
    ids: NDArray[np.int64]
    first: NDArray[np.int64]
    points: NDArray[np.float32]


def parse(content: bytes) -> Bodies | Fault:
    """Parse a text of plain ASCII; returns its bodies, or its first fault."""
    text = np.frombuffer(content, np.uint8)
    lines = content.count(b"\n") + 1
    room = lines // 3 + 1  # a body takes three lines at least
    frame, ids, first = np.empty(room, np.int64), np.empty((room, 2), np.int64), np.zeros(room + 1, np.int64)
    points, hard = np.empty((lines, 3), np.float32), np.empty((3 * lines, 2), np.int64)
    frames, bodies, joints, difficult, *fault = _compiled()(text, lines, frame, ids, first, points, hard, _POWERS)
    if fault[0] != OK:
        return Fault(*(int(value) for value in fault))
    left = np.flatnonzero(np.isnan(points[:joints].ravel())) if difficult else np.empty(0, np.int64)
    for index, (start, end) in zip(left.tolist(), hard[:difficult].tolist(), strict=True):
        try:
            points.ravel()[index] = _number(content[start:end])
        except ValueError:
            line = content.count(b"\n", 0, start) + 1
            return Fault(COORDINATE, line, JOINT, 3, start, end)
    return Bodies(int(frames), frame[:bodies], ids[:bodies], first[: bodies + 1], points[:joints])


def _number(token: bytes) -> np.float32:
    if b"_" in token:  # an underscore is valid in Python's numbers only
        raise ValueError(token)
    with np.errstate(over="ignore"):
        return np.float32(float(token))


@functools.cache
def _compiled() -> Any:
    """`_parse_text`, compiled once per machine; once per process where no folder can hold the result."""
    from numba import njit

    try:
        return njit(cache=True, nogil=True)(_parse_text)
    except RuntimeError:
        return njit(nogil=True)(_parse_text)


def _parse_text(text, lines, frame, ids, first, points, hard, powers):  # type: ignore[no-untyped-def]  # numba infers
    size = len(text)
    at, line = 0, 0
    frames, bodies, joints, difficult = 0, 0, 0, 0
    frames_left, bodies_left, joints_left = 0, 0, 0
    what, number = FRAMES, 0
    while True:
        # Which line comes next.
        if line > 0:
            if joints_left > 0:
                what = JOINT
            elif what == BODY:
                what = JOINTS
            elif bodies_left > 0:
                what = BODY
            elif frames_left > 0:
                what = BODIES
            else:
                break
        if at > size:
            return frames, bodies, joints, difficult, CUT_OFF, line, what, 0, 0, 0
        line += 1
        values, start, end = 0, at, at
        while at < size and text[at] != 10:
            c = text[at]
            if c == 32 or (9 <= c <= 13):
                at += 1
                continue
            begin = at
            values += 1
            if what == JOINT and values <= 3:
                # A number: digits with at most one point; all else is parsed by Python.
                negative = c == 45
                if negative or c == 43:
                    at += 1
                mantissa, written, digits, places, point = 0, 0, 0, 0, False
                easy = True
                while at < size:
                    c = text[at]
                    if 48 <= c <= 57:
                        mantissa = mantissa * 10 + (c - 48)
                        written += 1
                        if mantissa > 0:
                            digits += 1
                        if point:
                            places += 1
                        at += 1
                        if digits > 15 or places > 22:
                            easy = False
                            break
                    elif c == 46 and not point:
                        point = True
                        at += 1
                    else:
                        break
                if at < size and not (text[at] == 32 or 9 <= text[at] <= 13):
                    easy = False
                if written == 0:
                    easy = False
                while at < size and not (text[at] == 32 or 9 <= text[at] <= 13):
                    at += 1
                if easy:
                    value = mantissa / powers[places]
                    points[joints, values - 1] = -value if negative else value
                else:
                    points[joints, values - 1] = np.nan
                    hard[difficult, 0], hard[difficult, 1] = begin, at
                    difficult += 1
            else:
                while at < size and not (text[at] == 32 or 9 <= text[at] <= 13):
                    at += 1
            if values == 1:
                start, end = begin, at
        at += 1  # past the line's end
        if values != EXPECTED[what]:
            return frames, bodies, joints, difficult, VALUES, line, what, values, start, end
        if what == JOINT:
            joints += 1
            joints_left -= 1
            if joints_left == 0:
                first[bodies] = joints
        elif what == BODY:
            ids[bodies, 0], ids[bodies, 1] = start, end
            frame[bodies] = frames - 1
            bodies += 1
            first[bodies] = joints
            bodies_left -= 1
        else:
            number = 0
            for place in range(start, end):
                c = text[place]
                if not 48 <= c <= 57 or end - start > 9:
                    number = -1
                    break
                number = number * 10 + (c - 48)
            # Every frame, body and joint takes a line, so a larger number is damage: it must not cost memory.
            if number < 0 or number > lines:
                return frames, bodies, joints, difficult, COUNT, line, what, values, start, end
            if what == FRAMES:
                frames_left = number
            elif what == BODIES:
                frames += 1
                frames_left -= 1
                bodies_left = number
            else:
                joints_left = number
    while at < size:
        c = text[at]
        if c == 10:
            line += 1
        elif not (c == 32 or 9 <= c <= 13):
            return frames, bodies, joints, difficult, GOES_ON, line + 1, 0, 0, at, at
        at += 1
    return frames, bodies, joints, difficult, OK, 0, 0, 0, 0, 0
