"""Clip stores of generated people, for tests that look across recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from glt import artifact
from glt.data.clips import ClipStore, SegmentWriter, write_rejected
from glt.data.layouts import NTU25, Skeleton
from glt.data.recording import Recording
from tests.data.recorded import recipe


def person(seed: int, layout: Skeleton = NTU25) -> np.ndarray:
    """Where a person's joints rest, [K, 3]; bones of 0.12 to 0.35 m."""
    random = np.random.default_rng(seed)
    rest = np.zeros((len(layout.joints), 3))
    order = [layout.centre]
    while len(order) < len(rest):
        for a, b in layout.bones:
            for known, new in ((a, b), (b, a)):
                if known in order and new not in order:
                    way = random.normal(0, 1, 3)
                    if (side := layout.joints[new].split()[0]) in ("left", "right"):
                        way[0] = abs(way[0]) if side == "left" else -abs(way[0])
                    rest[new] = rest[known] + random.uniform(0.12, 0.35) * way / np.linalg.norm(way)
                    order.append(new)
    return rest


def take(seed: int, who: int = 0, length: int = 60, persons: int = 1, layout: Skeleton = NTU25) -> np.ndarray:
    """Frames [T, P, K, 3] of people who turn, walk and swing their joints, each take in its own way."""
    random = np.random.default_rng(seed)
    bodies = []
    for serial in range(persons):
        rest = person(who + 1000 * serial, layout)
        t = np.arange(length)[:, None, None] / 30
        swing = random.normal(0, 0.08, (1, *rest.shape)) * np.sin(
            2 * np.pi * (random.uniform(0.3, 1.2, (1, len(rest), 1)) * t + random.random((1, len(rest), 1)))
        )
        turn = np.cumsum(random.normal(0, 0.03, length)) + random.uniform(-np.pi, np.pi)
        path = np.cumsum(random.normal(0, 0.01, (length, 1, 3)), axis=0) * [1, 0.1, 1] + [1.2 * serial, 1, 3]
        bodies.append(rotate(rest + swing, turn) + path)
    return np.stack(bodies, axis=1).astype(np.float32)


def rotate(points: np.ndarray, angle: float | np.ndarray) -> np.ndarray:
    """Points [T, ..., 3] turned about the vertical."""
    cos, sin = (np.reshape(f(angle), (-1, *[1] * (points.ndim - 2))) for f in (np.cos, np.sin))
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)


def recordings(count: int, change: Callable[[Recording], Recording] = lambda r: r, first: int = 0) -> list[Recording]:
    """Takes of ten people and five classes, of different length."""
    found = []
    for serial in range(first, first + count):
        frames = take(serial, serial % 10, 30 + 7 * (serial % 9))
        one = Recording(
            f"S001C001P{serial % 10:03}R001A{serial:05}",
            frames,
            np.ones(frames.shape[:2], bool),
            NTU25,
            label=f"class {serial % 5}",
            subject=serial % 10,
            camera=1 + serial % 3,
        )
        found.append(change(one))
    return found


def store(folder: Path, clips: Sequence[Recording], persons: int = 2) -> ClipStore:
    """A finished clip store of these recordings."""
    with artifact.create(folder, "clips", {"segments": ["one"], "recipe": recipe().model_dump(mode="json")}) as draft:
        place = draft / "segments" / "one"
        place.mkdir(parents=True)
        with SegmentWriter(place, persons) as segment:
            for clip in clips:
                length, there, *shape = clip.frames.shape
                frames, present = np.zeros((length, persons, *shape), np.float32), np.zeros((length, persons), bool)
                frames[:, :there], present[:, :there] = clip.frames, clip.present
                segment.add(replace(clip, frames=frames, present=present), f"{clip.name}.skeleton")
        write_rejected(draft, [])
        artifact.write_json(draft / "skeleton.json", clips[0].skeleton.to_dict())
    return ClipStore(folder)
