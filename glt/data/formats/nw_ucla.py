"""Northwestern-UCLA as the field uses it: one ``aXX_sYY_eZZ_vNN.json`` per recording, Kinect v1, 20 joints, one person.

Coordinates are in metres: the median bones are a thigh of 0.47 m, a shin of 0.37 m, an upper arm of 0.25 m,
and people stand 1.3 to 3.8 m before the sensor. y is up: heads are above feet. The frame rate is estimated from the
data: walkers cover 0.06 to 0.08 m a frame, which is a walk at about 15 frames a second and a run at the sensor's 30.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from glt.data import limits
from glt.data.formats.format import Format, one_per_file
from glt.data.layouts import KINECT20
from glt.data.recording import Recording, Rejection
from glt.text import clean

NAME = re.compile(r"(?:a(\d{2})_)?s(\d{2})_e(\d{2})_v(\d{2})\.json", re.ASCII | re.IGNORECASE)

SKELETON = replace(KINECT20, rate=15.0)

_LARGEST = 16 << 20  # bytes, about 9,000 frames; as nested lists these take 40 times the memory

# Action number in the name -> class; the JSON's label counts them from 1 without the gaps.
CLASSES = {
    1: "pick up with one hand",
    2: "pick up with two hands",
    3: "drop trash",
    4: "walk around",
    5: "sit down",
    6: "stand up",
    8: "donning",
    9: "doffing",
    11: "throw",
    12: "carry",
}


def read(name: str, content: bytes) -> Recording:
    """Read a recording; the label is that in the JSON, and if there is none the recording is unlabelled.

    Raises:
        Rejection: the name is not NW-UCLA's, or the content is not the JSON of such a recording.
    """
    file = PurePosixPath(name).name
    match = NAME.fullmatch(file)
    if match is None:
        raise Rejection("name", "expected aXX_sYY_eZZ_vNN.json")
    action, subject, replication, camera = (int(number) if number else None for number in match.groups())
    fields = _parse(content)
    return replace(
        _recording(file[: -len(".json")].lower(), fields),
        label=_label(fields.get("label"), action),
        subject=subject,
        camera=camera,
        replication=replication,
    )


def read_unnamed(name: str, content: bytes) -> Recording:
    """Read a recording from a file of any name; its label is ignored.

    Raises:
        Rejection: the content is not the JSON of such a recording.
    """
    return _recording(clean(name)[: -len(".json")], _parse(content))


def _parse(content: bytes) -> dict[str, Any]:
    if len(content) > _LARGEST:
        raise Rejection("too-large", f"{len(content)} bytes, more than {_LARGEST >> 20} MiB; cut it into recordings")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Rejection("format", f"not JSON: {error!s:.200}") from None
    if not isinstance(fields, dict) or "skeletons" not in fields:
        raise Rejection("format", "not an object with the key `skeletons`")
    return fields


def _recording(name: str, fields: dict[str, Any]) -> Recording:
    try:
        with np.errstate(over="ignore"):
            frames = np.asarray(fields["skeletons"], np.float64).astype(np.float32)
    except (ValueError, TypeError, OverflowError):
        raise Rejection("joints", "skeletons is not [frames][joints][x, y, z] of numbers") from None
    if frames.shape == (0,):
        raise Rejection("empty", "no frames")
    if frames.ndim != 3:
        raise Rejection("joints", f"skeletons has {frames.ndim} levels of lists, expected [frames][joints][x, y, z]")
    frames = frames[:, None]  # T, 1, K, 3
    if reason := limits.too_large(frames.shape):
        raise Rejection("too-large", reason)
    return Recording(name=name, frames=frames, present=np.ones(frames.shape[:2], bool), skeleton=SKELETON)


def _label(label: Any, action: int | None) -> str | None:
    if label is None:
        return None
    actions = list(CLASSES)
    if type(label) is not int or not 1 <= label <= len(actions):
        raise Rejection("label", f"label {label!r:.40}: expected 1 to {len(actions)}, or none")
    if action is not None and actions[label - 1] != action:
        raise Rejection("label", f"the name says action a{action:02}, the label {label} is a{actions[label - 1]:02}")
    return CLASSES[actions[label - 1]]


FORMAT = Format(
    version=2,
    suffixes=(".json",),
    read=one_per_file(read),
    skeleton=SKELETON,
    read_unnamed=one_per_file(read_unnamed),
)
