"""SBU Kinect Interaction: ``<pair>/<action>/<take>/skeleton_pos.txt``, two persons of 15 joints.

A line is a frame: its number, then x, y, z of each joint of the first person, then of the second. In the file each axis
has its own scale and y points down; `read` converts: x' = 1280 - 2560 x, y' = 960 - 1920 y, z' = 1280 z, in mm.
Then a thigh is 424 mm long, a shin 409, a forearm 280, and bone lengths vary half as much within a clip as before.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from glt.data import limits
from glt.data.formats.format import Format, one_per_file
from glt.data.formats.text_file import plain
from glt.data.layouts import SBU15
from glt.data.recording import Recording, Rejection
from glt.text import clean

CLASSES = {
    1: "approaching",
    2: "departing",
    3: "kicking",
    4: "pushing",
    5: "shaking-hands",
    6: "hugging",
    7: "exchanging-object",
    8: "punching",
}

# A clip's subject is the position of its pair in this list, from 1, as in the folds of the protocol.
PAIRS = (
    *("s01s02", "s01s03", "s01s07", "s02s01", "s02s03", "s02s06", "s02s07"),
    *("s03s02", "s03s04", "s03s05", "s03s06", "s04s02", "s04s03", "s04s06"),
    *("s05s02", "s05s03", "s06s02", "s06s03", "s06s04", "s07s01", "s07s03"),
)

_SCALE = np.array([-2.560, -1.920, 1.280])  # to metres
_SHIFT = np.array([1.280, 0.960, 0.0])
_ACTIONS = {f"{action:02}" for action in CLASSES}
_PERSONS = 2
_VALUES = 1 + _PERSONS * len(SBU15.joints) * 3


def read(name: str, content: bytes) -> Recording:
    """Read a recording; `name` must include the folders `<pair>/<action>/<take>/skeleton_pos.txt`.

    Raises:
        Rejection: the name is not SBU's, or the text is damaged or cut off.
    """
    pair, action, take = _parse_path(name)
    return replace(
        read_unnamed(name, content),
        name=f"{pair}-{action}-{take}",
        label=CLASSES[int(action)],
        subject=PAIRS.index(pair) + 1,
        replication=int(take),
    )


def read_unnamed(name: str, content: bytes) -> Recording:
    """Read a recording in any folder.

    Raises:
        Rejection: the text is damaged or cut off.
    """
    content = plain(content)
    frames_at_most = max(content.count(b"\n"), content.count(b",") // (_VALUES - 1))
    if reason := limits.too_large((frames_at_most, _PERSONS, len(SBU15.joints))):
        raise Rejection("too-large", reason)
    try:
        lines = [line.split(",") for line in content.decode("ascii").split("\n") if line.strip()]
        values = [[float(value) for value in line] for line in lines]
    except UnicodeDecodeError:
        raise Rejection("format", "not a text file") from None
    except ValueError as error:
        raise Rejection("format", f"expected numbers between commas: {error!s:.80}") from None
    for line_number, line in enumerate(values, 1):
        if len(line) != _VALUES:
            raise Rejection("joints", f"line {line_number}: {len(line)} values, a frame of two persons has {_VALUES}")
    positions = np.array(values).reshape(len(values), _VALUES)[:, 1:].reshape(-1, _PERSONS, len(SBU15.joints), 3)
    present = (positions != 0).any(axis=(2, 3))
    with np.errstate(over="ignore"):
        frames = (positions * _SCALE + _SHIFT).astype(np.float32)
    return Recording(
        name=clean(name)[: -len(".txt")],
        frames=frames * present[:, :, None, None],
        present=present,
        skeleton=SBU15,
    )


def _parse_path(name: str) -> tuple[str, str, str]:
    """Pair, action and take."""
    parts = PurePosixPath(name.lower()).parts[-4:-1]
    if len(parts) == 3:
        pair, action, take = parts
        if pair in PAIRS and action in _ACTIONS and take.isascii() and take.isdigit() and len(take) <= 9:
            return pair, action, take
    raise Rejection("name", "expected <pair>/<action>/<take>/skeleton_pos.txt, as in s01s02/01/001/skeleton_pos.txt")


FORMAT = Format(
    version=3,
    suffixes=("skeleton_pos.txt",),
    read=one_per_file(read),
    skeleton=SBU15,
    read_unnamed=one_per_file(read_unnamed),
)
