"""Global translation and local motion (paper, Sec. 3.2 and Fig. 2), and the folder of motions that training reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from glt import artifact
from glt.data import duplicates, labelled_fractions, splits
from glt.data.absent import absent_joints, shown_parents
from glt.data.clips import ClipStore
from glt.data.layouts import Skeleton
from glt.data.npy_reader import NpyRowReader
from glt.errors import GltError
from glt.motion.displacement import Bins, fit_bins_in_parts
from glt.motion.packed import Packed
from glt.recipe import MotionConfig, Recipe
from glt.reporter import Reporter

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def motion_tokens(frames: Floats, present: Bools, skeleton: Skeleton, config: MotionConfig) -> Floats:
    """Joint positions [T, P, K, 3] -> tokens [T, P, K, 3], or [T, P, K - 1, 3] if `global_translation` is `none`.

    Where the global translation is `mixed` in, a token is a joint's position from where the person's centre joint
    started (Table 1, experiment 1). Of the stream `bone`, a local token is a joint's position from the next joint on
    the way to the centre; of `motion`, a token is its change since the frame before, zero where there is none. Tokens
    of absent joints are zero, and no bone begins at one.
    """
    absent = absent_joints(frames, present, skeleton)
    if config.global_translation == "mixed":
        tokens = (frames - _start(frames, present, skeleton.centre)) * present[:, :, None, None]
        tokens = np.where(absent[:, :, None], np.float32(0), tokens)
    else:
        tokens = disentangle(frames, present, skeleton.centre)
        if config.stream == "bone":
            starts = np.take_along_axis(frames, shown_parents(absent, skeleton)[None, :, :, None], axis=2)
            bones = np.where(absent[:, :, None], np.float32(0), frames - starts)
            tokens[:, :, 1:] = np.delete(bones, skeleton.centre, axis=2) * present[:, :, None, None]
    if config.global_translation == "none":
        tokens = tokens[:, :, 1:]
    if config.yaw != "none":
        tokens = _turned(tokens, *_bearing(frames, present, skeleton, config.yaw), skeleton.up)
    return _changes(tokens, present) if config.stream == "motion" else tokens


def disentangle(frames: Floats, present: Bools, centre: int) -> Floats:
    """Positions [T, P, K, 3] -> tokens [T, P, K, 3].

    Token 0 is the global translation g_t = q_t^c - q_0^c of the centre joint since the person's first frame;
    tokens 1..K-1 are the other joints relative to the centre joint of the same frame. Absent persons are zeros.
    """
    middle = frames[:, :, centre : centre + 1]  # T, P, 1, 3
    local = np.delete(frames, centre, axis=2) - middle
    tokens: Floats = np.concatenate([middle - _start(frames, present, centre), local], axis=2)
    return tokens * present[:, :, None, None]


def entangle(tokens: Floats, present: Bools, centre: int) -> Floats:
    """The inverse of `disentangle`, except that each person's centre joint starts at the origin."""
    middle = tokens[:, :, :1]
    joints: Floats = np.insert(tokens[:, :, 1:] + middle, centre, middle[:, :, 0], axis=2)
    return joints * present[:, :, None, None]


def face_forward(frames: Floats, present: Bools, skeleton: Skeleton) -> Floats:
    """Rotate the clip about the vertical so that the first person's shoulders, when first seen, lie along an axis.

    All frames and persons are rotated alike, which keeps their motion and their relative positions.
    """
    return _turned(frames, *_bearing(frames, present, skeleton, "first-frame"), skeleton.up)


def _changes(tokens: Floats, present: Bools) -> Floats:
    """Change of each token since the previous frame; zero unless both frames show the person."""
    changes = np.zeros_like(tokens)
    both = present[1:] & present[:-1]
    changes[1:] = (tokens[1:] - tokens[:-1]) * both[:, :, None, None]
    return changes


def _start(frames: Floats, present: Bools, centre: int) -> Floats:
    """Position of each person's centre joint when first seen, [P, 1, 3]; of absent persons, at frame 0."""
    first = np.argmax(present, axis=0)
    start: Floats = frames[first, np.arange(frames.shape[1]), centre][:, None]
    return start


def _bearing(frames: Floats, present: Bools, skeleton: Skeleton, yaw: str) -> tuple[Floats, Floats]:
    """Cosine and sine of the rotation that aligns the shoulders with an axis: [T, P] if `per-frame`, else scalars."""
    left, right = skeleton.shoulders
    line = frames[:, :, left] - frames[:, :, right]  # T, P, 3
    if yaw != "per-frame":
        first = line[present[:, 0], 0]  # of the first person, where seen
        first = first[:1] if yaw == "first-frame" else first
        line = first.mean(axis=0) if len(first) else np.zeros(3, np.float32)
    a, b = (skeleton.up + 1) % 3, (skeleton.up + 2) % 3
    length = np.hypot(line[..., a], line[..., b])
    known = length > 0
    length = np.where(known, length, 1)
    return np.where(known, line[..., b] / length, 1), np.where(known, line[..., a] / length, 0)


def _turned(points: Floats, cos: Floats, sin: Floats, up: int) -> Floats:
    """Points [T, P, n, 3] rotated about axis `up`."""
    a, b = (up + 1) % 3, (up + 2) % 3
    cos, sin = cos[..., None], sin[..., None]
    turned = points.copy()
    turned[..., a] = cos * points[..., a] - sin * points[..., b]
    turned[..., b] = sin * points[..., a] + cos * points[..., b]
    return turned


def write_motions(
    clips: ClipStore,
    recipe: Recipe,
    out: Path,
    info: Mapping[str, Any],
    reporter: Reporter,
    duplicates_cache: Path | None = None,
) -> None:
    """Disentangle every clip, split them, fit the displacement bins on the training split, seal the folder at `out`.

    Args:
        clips: the store.
        recipe: its sections data and motion.
        out: path of the folder.
        info: stored in the manifest.
        reporter: receives the progress.
        duplicates_cache: see `glt.data.duplicates.near_duplicates`.

    Raises:
        GltError: the protocol leaves a split empty.
    """
    pairs = duplicates.near_duplicates(clips, reporter, duplicates_cache)
    index = clips.index.assign(original=duplicates.originals(pairs, clips.index))
    index = index.assign(**splits.split(index, recipe.data))
    index["offset"] = index["length"].cumsum() - index["length"]
    with artifact.create(out, "motions", {**info, "recipe": recipe.model_dump(mode="json")}) as folder:
        present = _write_tokens(folder / "tokens.npy", clips, index, recipe, reporter)
        np.save(folder / "present.npy", present)
        index.drop(columns="segment").to_parquet(folder / "clips.parquet", index=False)
        artifact.write_json(folder / "skeleton.json", clips.skeleton.to_dict())
        labelled_fractions.write_lists(
            folder, index, [*labelled_fractions.TRIALS, *product(recipe.fractions, recipe.seeds)]
        )
        bins = _fit(folder / "tokens.npy", present, index[index["split"] == "train"], recipe.motion)
        artifact.write_json(folder / "displacement.json", bins.to_dict())


def _write_tokens(path: Path, clips: ClipStore, index: pd.DataFrame, recipe: Recipe, reporter: Reporter) -> Bools:
    """Write the tokens of all clips, packed [S, P, K, 3]; returns present [S, P].

    As a stream: pages that are written through a memory map would stay in memory.
    """
    frames, persons = int(index["length"].sum()), recipe.data.persons
    joints = len(clips.skeleton.joints) - (recipe.motion.global_translation == "none")
    present = np.zeros((frames, persons), bool)
    with path.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (frames, persons, joints, 3)}
        np.lib.format.write_array_header_1_0(stream, header)
        for clip_id, (offset, length) in enumerate(zip(index["offset"], index["length"], strict=True)):
            positions, seen = clips.clip(clip_id)
            tokens = motion_tokens(positions, seen, clips.skeleton, recipe.motion)
            stream.write(np.ascontiguousarray(tokens, "<f4").tobytes())
            present[offset : offset + length] = seen
            reporter.progress("disentangle", clip_id + 1, len(index))
    return present


def _fit(path: Path, present: Bools, train: pd.DataFrame, config: MotionConfig) -> Bins:
    """Bins fitted to the training clips; above 4,000 clips, to a regular subset of them."""
    chosen = train.iloc[:: max(1, len(train) // 4000)]
    global_tokens = int(config.global_translation == "separate")

    def parts() -> Iterator[Packed]:
        for _, part in chosen.groupby(chosen["length"].cumsum() // 20_000):  # frames in memory at a time, about
            tokens = np.load(path, mmap_mode="r")  # mapped anew: what was read of it leaves memory with it
            rows = np.concatenate([np.arange(o, o + n) for o, n in zip(part["offset"], part["length"], strict=True)])
            lengths = tuple(int(n) for n in part["length"])
            yield Packed(torch.from_numpy(tokens[rows]), torch.from_numpy(present[rows]), lengths, global_tokens)

    return fit_bins_in_parts(parts, config)


class Motions:
    """A `motions` artifact, opened for reading.

    Attributes:
        index: one row per clip: name, offset, length, label (or None), split, group, clean, ...
        skeleton: the skeleton layout.
        bins: boundaries of the displacement classes.
        info: provenance, from the manifest.
        digest: content hash of the folder.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        """Open the folder at `path`; a folder that is not whole is a GltError."""
        self.path = Path(path)
        self.info = artifact.open_artifact(self.path, "motions", verify=verify)
        self.digest = artifact.digest(self.path)
        # Motions written before the column was renamed have `side`.
        with artifact.reading(self.path / "clips.parquet"):
            self.index = pd.read_parquet(self.path / "clips.parquet").rename(columns={"side": "split"})
            self._spans = self.index[["offset", "length"]].to_numpy()
        skeleton, bins = (artifact.read_json(self.path / name, dict) for name in ("skeleton.json", "displacement.json"))
        with artifact.reading(self.path / "skeleton.json"):
            self.skeleton = Skeleton.from_dict(skeleton)
        with artifact.reading(self.path / "displacement.json"):
            self.bins = Bins.from_dict(bins)
        self._tokens = NpyRowReader(self.path / "tokens.npy")
        with artifact.reading(self.path / "present.npy"):
            self._present = np.load(self.path / "present.npy", allow_pickle=False)

    @property
    def persons(self) -> int:
        """P."""
        return int(self._tokens.shape[1])

    @property
    def joints(self) -> int:
        """K, tokens per person."""
        return int(self._tokens.shape[2])

    @property
    def translation(self) -> str:
        """`separate`, `none` or `mixed`; see `MotionConfig.global_translation`."""
        return str(self.info["recipe"]["motion"]["global_translation"])

    @property
    def global_tokens(self) -> int:
        """Tokens per person that are global translations, 1 or 0."""
        return int(self.translation == "separate")

    @property
    def mirror(self) -> tuple[int, ...]:
        """For each of the K tokens of a person, the index of its mirror image (left and right exchanged)."""
        joints = list(range(len(self.skeleton.joints)))
        for left, right in self.skeleton.pairs:
            joints[left], joints[right] = right, left
        if self.translation == "mixed":
            return tuple(joints)
        order = [joint for joint in range(len(joints)) if joint != self.skeleton.centre]
        return (*range(self.global_tokens), *(self.global_tokens + order.index(joints[joint]) for joint in order))

    def clip_ids(self, split: str, *, labelled: bool = False) -> NDArray[np.int64]:
        """Indices of the clips of a split (``train``, ``test`` or ``unused``) in `index`; of labelled ones if asked.

        Raises:
            GltError: there are none.
        """
        chosen = self.index["split"] == split
        if labelled:
            chosen &= self.index["label"].notna()
        clip_ids = np.flatnonzero(chosen.to_numpy())
        if not len(clip_ids):
            which = "labelled clip" if labelled else "clip"
            raise GltError(f"{self.path}: no {which} in the {split} split; add some, or change the protocol")
        return clip_ids

    def labels(self, clip_ids: NDArray[np.int64]) -> NDArray[np.str_]:
        """Class names of labelled clips, [n]."""
        return self.index["label"].to_numpy()[clip_ids].astype(str)

    def batch(self, clip_ids: NDArray[np.int64]) -> Packed:
        """The clips with these indices, at their natural length."""
        rows = [slice(o, o + n) for o, n in self._spans[clip_ids]]
        tokens = np.concatenate([self._tokens.read(r.start, r.stop) for r in rows])
        present = np.concatenate([self._present[r] for r in rows])
        lengths = tuple(int(n) for n in self._spans[clip_ids, 1])
        return Packed(torch.from_numpy(tokens), torch.from_numpy(present), lengths, self.global_tokens)
