"""Recall and false alarms of the search for near duplicates, on copies planted into real clips.

    python -m benchmarks.near_duplicates CLIPS [CLIPS ...] [--per-kind 100] [--seed 0]
    python -m benchmarks.near_duplicates --generate 113945

CLIPS are folders that `glt ingest` has made. Each kind of copy is made of clips drawn at random and added under another
name. A false alarm is a pair of clips that was not planted; `known` of them share frames bit for bit, so they are real.

With `--generate`, so many clips are made of the sample's, each changed in its own way, and the search is timed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glt import artifact
from glt.data.clips import ClipStore, SegmentWriter, write_rejected
from glt.data.duplicates import near_duplicates
from glt.data.layouts import NTU25
from glt.data.recording import Recording
from glt.data.sample.recordings import record, takes
from glt.data.windows import windows
from glt.reporter import Silent

Floats = NDArray[np.float32]
Random = np.random.Generator
_LENGTH = 30  # frames that a clip must have to be copied


def _turn(frames: Floats, up: int, random: Random) -> Floats:
    """Turned about the vertical and moved."""
    angle, (x, y) = random.uniform(-np.pi, np.pi), ((up + 1) % 3, (up + 2) % 3)
    turned = frames.copy()
    turned[..., x] = np.cos(angle) * frames[..., x] - np.sin(angle) * frames[..., y]
    turned[..., y] = np.sin(angle) * frames[..., x] + np.cos(angle) * frames[..., y]
    turned += random.uniform(-2, 2, 3).astype(np.float32)
    return turned


def _noise(frames: Floats, random: Random, metres: float) -> Floats:
    noise: Floats = random.normal(0, metres, frames.shape).astype(np.float32)
    return frames + noise


def _resample(frames: Floats, factor: float) -> Floats:
    at = np.linspace(0, len(frames) - 1, round(len(frames) * factor))
    low = np.minimum(at.astype(int), len(frames) - 2)
    weight = (at - low)[:, None, None, None].astype(np.float32)
    resampled: Floats = frames[low] * (1 - weight) + frames[low + 1] * weight
    return resampled


def _cut(frames: Floats, share: float, random: Random) -> Floats:
    length = max(10, round(share * len(frames)))
    start = int(random.integers(0, len(frames) - length + 1))
    return frames[start : start + length]


KINDS: dict[str, Callable[[Floats, int, Random], Floats]] = {
    "moved and turned": lambda frames, up, random: _turn(frames, up, random),
    "noise of 2 mm": lambda frames, up, random: _noise(frames, random, 0.002),
    "at 1.25 times the rate": lambda frames, up, random: _resample(frames, 1.25),
    "a tenth cut off": lambda frames, up, random: _cut(frames, 0.9, random),
    "half of it": lambda frames, up, random: _cut(frames, 0.5, random),
    "a third of it": lambda frames, up, random: _cut(frames, 1 / 3, random),
    "half of it, moved, turned, 2 mm": lambda frames, up, random: _noise(
        _turn(_cut(frames, 0.5, random), up, random), random, 0.002
    ),
}


def main() -> None:
    """Print a table for each folder of clips, or the time for generated ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--generate", type=int, default=0)
    parser.add_argument("--per-kind", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.generate:
        print(search_time(arguments.generate))
    for folder in arguments.clips:
        print(
            f"\n{folder.name}\n{measure(ClipStore(folder), arguments.per_kind, arguments.seed).to_string(index=False)}"
        )


def measure(store: ClipStore, per_kind: int, seed: int) -> pd.DataFrame:
    """One row per kind of copy: number planted, share found; then the false alarms and the time."""
    random = np.random.default_rng(seed)
    clips = {str(name): store.clip(row) for row, name in enumerate(store.index["name"])}
    suitable = [name for name, (frames, present) in clips.items() if len(frames) >= _LENGTH and present[:, 0].all()]
    planted: dict[frozenset[str], tuple[str, bool]] = {}
    copies: dict[str, Floats] = {}
    for kind, make in KINDS.items():
        for name in random.choice(suitable, min(per_kind, len(suitable)), replace=False):
            frames, present = clips[name]
            copy = make(frames if present.all() else frames[:, :1], store.skeleton.up, random)
            copies[f"{kind}: {name}"] = copy
            planted[frozenset((str(name), f"{kind}: {name}"))] = (kind, _moves(copy, store))
    originals = {name: frames for name, (frames, _) in clips.items()}
    with tempfile.TemporaryDirectory() as folder:
        together = _store(Path(folder) / "clips", {**originals, **copies}, clips, store)
        started = time.monotonic()
        pairs = near_duplicates(together, Silent())
        seconds = time.monotonic() - started
    # Of many copies not every pair is aligned: groups, not pairs, are what was found.
    groups = _groups(pairs)
    found = {pair: groups[a] == groups[b] for pair in planted for a, b in [sorted(pair)] if a in groups and b in groups}
    rows = []
    for kind in KINDS:
        of_kind = [pair for pair, (its, moves) in planted.items() if its == kind and moves]
        rows.append((kind, len(of_kind), f"{np.mean([found.get(pair, False) for pair in of_kind]):.1%}"))
    own = [
        (first, second)
        for first, second in pairs[["first", "second"]].to_numpy().tolist()
        if first in clips and second in clips
    ]
    known = sum(_share_frames(clips[first][0], clips[second][0]) for first, second in own)
    rows.append((f"pairs that were not planted (known: {known})", len(clips), str(len(own))))
    rows.append(("seconds", len(clips) + len(copies), f"{seconds:.1f}"))
    return pd.DataFrame(rows, columns=["copies", "clips", "found"])


def search_time(count: int) -> str:
    """Generate so many different clips and search them: the time, on the wall and of the processor."""
    captures = [record(take) for take in takes()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clips"
        with artifact.create(path, "clips", {"segments": ["all"]}) as draft:
            (draft / "segments" / "all").mkdir(parents=True)
            with SegmentWriter(draft / "segments" / "all", 1) as segment:
                for number in range(count):
                    capture = captures[number % len(captures)]
                    frames = _changed(capture.joints[capture.tracked[:, 0], :1], np.random.default_rng(number))
                    segment.add(Recording(f"clip{number}", frames, np.ones(frames.shape[:2], bool), NTU25), "generated")
            write_rejected(draft, [])
            artifact.write_json(draft / "skeleton.json", NTU25.to_dict())
        store = ClipStore(path, verify=False)
        wall, processor = time.monotonic(), time.process_time()
        pairs = near_duplicates(store, Silent())
        wall, processor = time.monotonic() - wall, time.process_time() - processor
    total = int(store.index["length"].sum())
    return f"{count} clips, {total} frames: {wall:.0f} s, {processor:.0f} s of the processor, {len(pairs)} pairs"


def _changed(frames: NDArray[np.float64], random: Random) -> Floats:
    """The clip of another body that swings its joints in its own way, at another speed; 40 to 119 frames."""
    at = np.linspace(0, len(frames) - 1, random.integers(40, 120))
    low = np.minimum(at.astype(int), len(frames) - 2)
    weight = (at - low)[:, None, None, None]
    joints = frames.shape[2]
    rate, phase = random.uniform(0.2, 1.5, (1, 1, joints, 1)), random.random((1, 1, joints, 1))
    swing = np.sin(2 * np.pi * (rate * np.arange(len(at))[:, None, None, None] / 30 + phase))
    moved = random.normal(0, 0.06, (1, 1, joints, 3)) + random.normal(0, 0.06, (1, 1, joints, 3)) * swing
    changed: Floats = (frames[low] * (1 - weight) + frames[low + 1] * weight + moved).astype(np.float32)
    return changed


def _moves(frames: Floats, store: ClipStore) -> bool:
    """True if the person moves by more than a centimetre within nine frames at least once."""
    of = windows(frames, (frames != 0).any(axis=(2, 3)), store.skeleton)
    return bool(len(of.movement) and of.movement.max() > 0.01)


def _groups(pairs: pd.DataFrame) -> dict[str, int]:
    from scipy.cluster.hierarchy import DisjointSet

    names = pd.unique(pairs[["first", "second"]].to_numpy().ravel())
    groups = DisjointSet(names)
    for first, second in pairs[["first", "second"]].to_numpy():
        groups.merge(first, second)
    return {name: index for index, group in enumerate(groups.subsets()) for name in group}


def _share_frames(one: Floats, other: Floats) -> bool:
    known = {frame.tobytes() for frame in one if frame.any()}
    return sum(frame.tobytes() in known for frame in other) >= 3


def _store(
    path: Path, frames: dict[str, Floats], clips: dict[str, tuple[Floats, NDArray[np.bool_]]], like: ClipStore
) -> ClipStore:
    persons = next(iter(clips.values()))[0].shape[1]
    with artifact.create(path, "clips", {"segments": ["all"]}) as draft:
        folder = draft / "segments" / "all"
        folder.mkdir(parents=True)
        with SegmentWriter(folder, persons) as segment:
            for name, points in frames.items():
                present = clips[name][1] if name in clips else (points != 0).any(axis=(2, 3))
                if points.shape[1] < persons:
                    gap = persons - points.shape[1]
                    points = np.pad(points, ((0, 0), (0, gap), (0, 0), (0, 0)))
                    present = np.pad(present, ((0, 0), (0, gap)))
                segment.add(Recording(name, points, present, like.skeleton), name)
        write_rejected(draft, [])
        artifact.write_json(draft / "skeleton.json", like.skeleton.to_dict())
    return ClipStore(path)


if __name__ == "__main__":
    main()
