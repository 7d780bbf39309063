"""The sample recordings: generated, in NTU RGB+D's `.skeleton` format, the same bytes on any machine.

`actions` defines the actions, `skeleton_model` how a body moves, `stable_random` the random numbers (integers only).
All else is + - * / and square roots; coordinates are rounded to 0.1 mm before they become text.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glt import artifact
from glt.data.sample.actions import ACTIONS, STAND, Subject, perform
from glt.data.sample.skeleton_model import Array, turn
from glt.data.sample.stable_random import StableRandom

ARCHIVE = "sample.zip"
MD5 = "c524e26034ff3efd237e3d2ff8d7e3fb"  # of what write_sample writes; data.dvc pins it
SUBJECTS, CAMERAS, TAKES = 8, 3, 2
FRAMES = (20, 90)  # shortest and longest recording, at 30 frames a second
UNLABELLED, BYSTANDERS, LATE, DROPPED = 0.10, 0.06, 0.5, 0.08  # shares of the recordings
_MILLIMETRES = [3, 2, 2, 3, 3, 4, 5, 6, 3, 4, 5, 6, 3, 4, 6, 7, 3, 4, 6, 7, 2, 8, 8, 8, 8]  # in NTU's order
_JITTER = np.array(_MILLIMETRES).reshape(-1, 1) / 1000  # standard deviation at 3 m from the sensor


@dataclass(frozen=True)
class Take:
    """One recording to generate. `serial` numbers the takes from 1 and seeds their random numbers."""

    serial: int
    subject: int
    camera: int
    replication: int
    action: int

    @property
    def name(self) -> str:
        """NTU's file name; an unlabelled take has its serial number in place of the action."""
        what = f"-{self.serial:03d}" if StableRandom(2, self.serial).coin(UNLABELLED) else f"A{self.action:03d}"
        setup = 1 if self.subject <= SUBJECTS // 2 else 2
        return f"S{setup:03d}C{self.camera:03d}P{self.subject:03d}R{self.replication:03d}{what}.skeleton"


def takes() -> list[Take]:
    """All takes: every subject performs every action twice in front of every camera."""
    combinations = [
        (subject, camera, replication, action)
        for subject in range(1, SUBJECTS + 1)
        for camera in range(1, CAMERAS + 1)
        for replication in range(1, TAKES + 1)
        for action in ACTIONS
    ]
    return [Take(serial, *combination) for serial, combination in enumerate(combinations, start=1)]


@dataclass(frozen=True)
class Capture:
    """The simulated sensor's output: joints [T, P, 25, 3] in metres, tracked bool [T, P], reliable bool [T, P, 25]."""

    joints: Array
    tracked: NDArray[np.bool_]
    reliable: NDArray[np.bool_]


def record(take: Take) -> Capture:
    """Perform a take and capture it with the simulated sensor."""
    random, action = StableRandom(3, take.serial), ACTIONS[take.action]
    frames = random.integer(FRAMES[0], FRAMES[1] + 1)
    cast = [Subject.of(take.subject)]
    if action.partner is not None:
        cast.append(Subject.of(take.subject % SUBJECTS + 1))
    bodies = perform(action, cast, frames, random)
    if len(bodies) == 1 and random.coin(BYSTANDERS):
        offset = np.array(
            [random.uniform_number(0.9, 1.3) * (1 - 2 * random.integer(0, 2)), 0, random.uniform_number(-0.4, 0.4)]
        )
        bodies += [perform(STAND, [Subject.of(random.integer(1, SUBJECTS + 1))], frames, random)[0] + offset]
    return _capture(np.stack(bodies, axis=1), take.camera, random)


def _capture(bodies: Array, camera: int, random: StableRandom) -> Capture:
    """Bodies [T, P, 25, 3] as seen by a Kinect at one of three positions: turned, tilted, noisy, with gaps."""
    frames, persons, count, _ = bodies.shape
    view = turn(bodies, random.uniform_number(-0.45, 0.45) + (-0.4, 0.0, 0.4)[camera - 1])
    position = np.array(
        [random.uniform_number(-0.5, 0.5), random.uniform_number(-1.0, -0.75), random.uniform_number(2.6, 3.8)]
    )
    view = view * np.array([-1, 1, -1]) + position  # they face the sensor
    tilt = random.uniform_number(-0.04, 0.04)
    view = turn(view[..., [1, 0, 2]], tilt)[..., [1, 0, 2]]
    view = view + _JITTER * (view[..., 2:] / 3) * random.normal(*view.shape)
    lost = random.bernoulli(0.002, frames, persons, count)
    lost[1:] |= lost[:-1] & random.bernoulli(0.6, frames - 1, persons, count)
    view = view + np.where(lost[..., None], 6 * _JITTER * random.normal(*view.shape), 0)
    tracked = np.ones((frames, persons), bool)
    if persons == 2 and random.coin(LATE):
        tracked[: random.integer(1, frames // 3), random.integer(0, 2)] = False
    if random.coin(DROPPED):
        start = random.integer(1, frames - 6)
        tracked[start : start + random.integer(1, 5)] = False
    return Capture(view, tracked, ~lost)


def skeleton_text(capture: Capture, first_body: int) -> str:
    """The text of an NTU `.skeleton` file; columns that no reader of joints uses (pixels, orientations) are zero."""
    frames, persons, count, _ = capture.joints.shape
    tenths = np.rint(capture.joints * 10000) / 10000 + 0.0
    states = 1 + capture.reliable.astype(int)
    joint = "%.4f %.4f %.4f 0 0 0 0 0 0 0 0 %d\n"
    heads = [f"{72057594037927936 + first_body + p} 0 1 1 1 1 0 0 0 2\n{count}\n" for p in range(persons)]
    template = [head + joint * count for head in heads]
    lines = [f"{frames}\n"]
    for time in range(frames):
        tracked = np.flatnonzero(capture.tracked[time])
        lines.append(f"{len(tracked)}\n")
        for person in tracked:
            values = [
                value
                for point, state in zip(tenths[time, person].tolist(), states[time, person].tolist(), strict=True)
                for value in (*point, state)
            ]
            lines.append(template[person] % tuple(values))
    return "".join(lines)


def _truncated(text: str) -> str:
    return text[: len(text) * 3 // 5]


def _not_a_number(text: str) -> str:
    lines = text.split("\n")
    lines[10] = "NaN NaN NaN" + lines[10][lines[10].index(" 0 0 ") :]
    return "\n".join(lines)


def _no_body(text: str) -> str:
    frames = int(text[: text.index("\n")])
    return f"{frames}\n" + "0\n" * frames


def _twenty_joints(text: str) -> str:
    lines = text.split("\n")
    return "\n".join([*lines[:3], "20", *lines[4:24], *lines[29:]])


def _garbled(text: str) -> str:
    return text.replace(".", ",", 200)


DAMAGES: dict[int, Callable[[str], str]] = {  # serial number of a take -> what happened to its file
    41: _truncated,
    163: _not_a_number,
    238: _no_body,
    322: _twenty_joints,
    447: _garbled,
}


def recordings() -> Iterator[tuple[str, bytes]]:
    """File name and content of every recording, sorted by name."""
    for take in sorted(takes(), key=lambda take: take.name):
        text = skeleton_text(record(take), 4 * take.serial)
        yield take.name, DAMAGES.get(take.serial, str)(text).encode("ascii")


def write_sample(path: Path) -> None:
    """Write the sample recordings as one zip file, atomically; the bytes are the same on every machine.

    The members are stored, not deflated, since deflated bytes differ between versions of zlib.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in recordings():
            entry = zipfile.ZipInfo(name, (2022, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content)
    artifact.write_bytes(path, buffer.getvalue())
