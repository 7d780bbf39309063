"""NTU RGB+D: one text file ``SsssCcccPpppRrrrAaaa.skeleton`` per recording, Kinect v2, 25 joints.

A file gives the number of frames, then for each frame the number of bodies, and for each body a line of ten values
(the first is the sensor's tracking id), the number of joints, and one line of twelve values per joint (the first three
are x, y, z in metres). A name without ``Aaaa`` is an unlabelled recording; ``-n`` may distinguish several of one setup.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glt import text
from glt.data import limits
from glt.data.formats import ntu_text
from glt.data.formats.format import Format, one_per_file
from glt.data.formats.text_file import plain
from glt.data.layouts import NTU25
from glt.data.recording import Recording, Rejection

_NUMBERS = r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})(A\d{3})?"
_FILE = re.compile(rf"({_NUMBERS}(?:[-_][^/]*)?)\.skeleton", re.ASCII | re.IGNORECASE)
_INSIDE = re.compile(rf"(?<![A-Z0-9]){_NUMBERS}(?![A-Z0-9])", re.ASCII | re.IGNORECASE)
_ENDING = len(".skeleton")


def read(name: str, content: bytes) -> Recording:
    """Read a recording; each body id is one person, in the order in which the ids appear.

    Raises:
        Rejection: the name is not NTU's, or the text is damaged or cut off.
    """
    file = text.clean(PurePosixPath(name).name)
    if _FILE.fullmatch(file) is None:
        raise Rejection("name", "expected SsssCcccPpppRrrrAaaa.skeleton (Aaaa only if labelled)")
    stem = _INSIDE.sub(lambda match: match[0].upper(), file[:-_ENDING])
    return replace(read_unnamed(name, content), name=stem, **numbers(file))


def read_unnamed(name: str, content: bytes) -> Recording:
    """Read a recording from a file of any name.

    Raises:
        Rejection: the text is damaged or cut off.
    """
    content = plain(content)
    if not content.isascii():
        raise Rejection("format", "not a text file")
    parsed = ntu_text.parse(content)
    if isinstance(parsed, ntu_text.Fault):
        raise Rejection("format", _describe(parsed, content))
    frames, present, warnings = _persons(parsed, content)
    return Recording(
        name=text.clean(name)[:-_ENDING], frames=frames, present=present, skeleton=NTU25, warnings=warnings
    )


def numbers(name: str) -> dict[str, Any]:
    """Setup, camera, subject, replication and label in the last NTU name within a name; empty if there is none.

    The name may be in lower case, in a path, and with something before or after it: ``x/s001c001p001r001a001_rgb.avi``.
    """
    matches = list(_INSIDE.finditer(name))
    if not matches:
        return {}
    setup, camera, subject, replication = (int(number) for number in matches[-1].groups()[:4])
    label = matches[-1][5]
    return {
        **{"setup": setup, "camera": camera, "subject": subject, "replication": replication},
        "label": label.upper() if label else None,
    }


def on_missing_list(name: str) -> bool:
    """True if the data set's authors list the recording among those with missing or wrong skeletons."""
    if name in _missing():
        return True
    matches = list(_INSIDE.finditer(name))
    return bool(matches) and matches[-1][0].upper() in _missing()


@functools.cache
def _missing() -> frozenset[str]:
    lines = resources.files("glt.data.formats").joinpath("ntu_missing.txt").read_text(encoding="ascii").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def _persons(parsed: ntu_text.Bodies, content: bytes) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[str, ...]]:
    """frames [T, P', K, 3], present [T, P'], and warnings."""
    ids = [content[start:end].decode() for start, end in parsed.ids.tolist()]
    persons = {body: person for person, body in enumerate(dict.fromkeys(ids))}
    counts = np.diff(parsed.first)
    joints = int(counts[0]) if len(counts) else 0
    if (counts != joints).any():
        other = int(np.argmax(counts != joints))
        raise Rejection("joints", f"{joints} joints in one frame, {counts[other]} in frame {parsed.frame[other] + 1}")
    if reason := limits.too_large((parsed.frames, len(persons), joints)):
        raise Rejection("too-large", reason)
    person = np.array([persons[body] for body in ids], np.int64)
    frames = np.zeros((parsed.frames, len(persons), joints, 3), np.float32)
    present = np.zeros((parsed.frames, len(persons)), bool)
    # In reverse order, so that of two bodies with one id in a frame the first remains.
    frames[parsed.frame[::-1], person[::-1]] = parsed.points.reshape(len(ids), joints, 3)[::-1]
    present[parsed.frame, person] = True
    if int(present.sum()) == len(ids):
        return frames, present, ()
    occurrences = Counter(zip(parsed.frame.tolist(), ids, strict=True))
    twice = dict.fromkeys(body for (_, body), count in occurrences.items() if count > 1)
    return frames, present, tuple(f"body: {text.clean(body):.40} twice in a frame, the first is kept" for body in twice)


def _describe(fault: ntu_text.Fault, content: bytes) -> str:
    """Describe a fault for a person."""
    what = ntu_text.WHAT[fault.what]
    if fault.kind == ntu_text.CUT_OFF:
        return f"cut off: ends at line {fault.line} where a {what} should follow"
    if fault.kind == ntu_text.VALUES:
        return f"line {fault.line}: {fault.values} values, a {what} line has {ntu_text.EXPECTED[fault.what]}"
    if fault.kind == ntu_text.COUNT:
        return f"line {fault.line}: {content[fault.start : fault.end][:20].decode()!r} is not a {what}"
    if fault.kind == ntu_text.COORDINATE:
        return f"line {fault.line}: the first three values are not coordinates"
    return f"goes on after its last frame, at line {fault.line}"


FORMAT = Format(
    version=3,
    suffixes=(".skeleton",),
    read=one_per_file(read),
    skeleton=NTU25,
    read_unnamed=one_per_file(read_unnamed),
)
