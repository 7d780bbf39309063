"""Global translation and local motion (paper, Sec. 3.2 and Fig. 2), and the folder of motions that training reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from glt import artifact
from glt.data import splits
from glt.data.clips import ClipStore
from glt.data.layouts import Skeleton
from glt.errors import GltError
from glt.motion.displacement import Bins, fit_bins
from glt.motion.packed import Packed
from glt.recipe import MotionConfig, Recipe
from glt.reporter import Reporter

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def disentangle(frames: Floats, present: Bools, centre: int) -> Floats:
    """Positions [T, P, K, 3] -> tokens [T, P, K, 3].

    Token 0 is the global translation g_t = q_t^c - q_0^c of the centre joint since the person's first frame;
    tokens 1..K-1 are the other joints relative to the centre joint of the same frame. Absent persons are zeros.
    """
    middle = frames[:, :, centre : centre + 1]  # T, P, 1, 3
    first = np.argmax(present, axis=0)  # first frame of each person, 0 for one who never comes
    start = middle[first, np.arange(frames.shape[1])]  # P, 1, 3
    local = np.delete(frames, centre, axis=2) - middle
    tokens: Floats = np.concatenate([middle - start, local], axis=2)
    return tokens * present[:, :, None, None]


def entangle(tokens: Floats, present: Bools, centre: int) -> Floats:
    """The inverse of `disentangle` up to each person's starting point, which is the origin."""
    middle = tokens[:, :, :1]
    joints: Floats = np.insert(tokens[:, :, 1:] + middle, centre, middle[:, :, 0], axis=2)
    return joints * present[:, :, None, None]


def face_forward(frames: Floats, present: Bools, skeleton: Skeleton) -> Floats:
    """The clip turned about the vertical so that the first person's shoulders lie along an axis when first seen.

    One turn for all frames and persons: how they turn, and how they stand to each other, stays.
    """
    if not present[:, 0].any():
        return frames
    left, right = skeleton.shoulders
    line = frames[np.argmax(present[:, 0]), 0, left] - frames[np.argmax(present[:, 0]), 0, right]
    a, b = (skeleton.up + 1) % 3, (skeleton.up + 2) % 3
    length = float(np.hypot(line[a], line[b]))
    if length == 0:
        return frames
    cos, sin = line[b] / length, line[a] / length  # turns the line onto axis b
    turned = frames.copy()
    turned[..., a] = cos * frames[..., a] - sin * frames[..., b]
    turned[..., b] = sin * frames[..., a] + cos * frames[..., b]
    return turned


def write_motions(clips: ClipStore, recipe: Recipe, out: Path, info: Mapping[str, Any], reporter: Reporter) -> None:
    """Disentangle every clip, split them, fit the displacement bins on the training side, seal the folder at `out`.

    Raises:
        GltError: the protocol leaves a side of the split empty.
    """
    index = clips.index.copy()
    index["side"] = splits.sides(index, recipe.data)
    index["group"] = splits.groups(index, recipe.data)
    index["clean"] = splits.clean(index, index["side"].to_numpy())
    index["offset"] = index["length"].cumsum() - index["length"]
    with artifact.create(out, "motions", {**info, "recipe": recipe.model_dump(mode="json")}) as folder:
        frames, persons, joints = int(index["length"].sum()), recipe.data.persons, len(clips.skeleton.joints)
        tokens = np.lib.format.open_memmap(
            folder / "tokens.npy", mode="w+", dtype=np.float32, shape=(frames, persons, joints, 3)
        )
        present = np.zeros((frames, persons), bool)
        for number, (offset, length) in enumerate(zip(index["offset"], index["length"], strict=True)):
            positions, seen = clips.clip(number)
            if recipe.motion.yaw == "first-frame":
                positions = face_forward(positions, seen, clips.skeleton)
            tokens[offset : offset + length] = disentangle(positions, seen, clips.skeleton.centre)
            present[offset : offset + length] = seen
            reporter.progress("disentangle", number + 1, len(index))
        tokens.flush()
        np.save(folder / "present.npy", present)
        index.drop(columns="segment").to_parquet(folder / "clips.parquet", index=False)
        artifact.write_json(folder / "skeleton.json", clips.skeleton.to_dict())
        bins = _fit(tokens, present, index[index["side"] == "train"], recipe.motion)
        artifact.write_json(folder / "displacement.json", bins.to_dict())


def _fit(tokens: Floats, present: Bools, train: pd.DataFrame, config: MotionConfig) -> Bins:
    """Bins of the training clips; of very many, of an even selection that fits in memory."""
    chosen = train.iloc[:: max(1, len(train) // 4000)]
    rows = np.concatenate([np.arange(o, o + n) for o, n in zip(chosen["offset"], chosen["length"], strict=True)])
    lengths = tuple(int(n) for n in chosen["length"])
    return fit_bins(Packed(torch.from_numpy(tokens[rows]), torch.from_numpy(present[rows]), lengths), config)


class Motions:
    """A folder of motions, read.

    Attributes:
        index: a row a clip: name, offset, length, label (or None), side, group, clean, ...
        skeleton: the joints' layout.
        bins: displacement classes.
        info: what the folder was made from.
        digest: content hash of the folder.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        """Open the folder at `path`; a folder that is not whole is a GltError."""
        self.path = Path(path)
        self.info = artifact.open_artifact(self.path, "motions", verify=verify)
        self.digest = artifact.digest(self.path)
        self.index = pd.read_parquet(self.path / "clips.parquet")
        self.skeleton = Skeleton.from_dict(json.loads((self.path / "skeleton.json").read_text()))
        self.bins = Bins.from_dict(json.loads((self.path / "displacement.json").read_text()))
        self._tokens = np.load(self.path / "tokens.npy", mmap_mode="r")
        self._present = np.load(self.path / "present.npy")
        self._spans = self.index[["offset", "length"]].to_numpy()

    @property
    def persons(self) -> int:
        """P."""
        return int(self._tokens.shape[1])

    @property
    def joints(self) -> int:
        """K."""
        return int(self._tokens.shape[2])

    def numbers(self, side: str, *, labelled: bool = False) -> NDArray[np.int64]:
        """Row numbers of the clips of a side (``train`` or ``test``), of the labelled ones if asked.

        Raises:
            GltError: there are none.
        """
        chosen = self.index["side"] == side
        if labelled:
            chosen &= self.index["label"].notna()
        numbers = np.flatnonzero(chosen.to_numpy())
        if not len(numbers):
            which = "labelled clip" if labelled else "clip"
            raise GltError(f"{self.path}: no {which} on the {side} side; add some, or change the protocol")
        return numbers

    def labels(self, numbers: NDArray[np.int64]) -> NDArray[np.str_]:
        """Class names of labelled clips."""
        return self.index["label"].to_numpy()[numbers].astype(str)

    def batch(self, numbers: NDArray[np.int64]) -> Packed:
        """The clips with these row numbers, at their natural length."""
        rows = [slice(o, o + n) for o, n in self._spans[numbers]]
        tokens = np.concatenate([self._tokens[r] for r in rows])
        present = np.concatenate([self._present[r] for r in rows])
        lengths = tuple(int(n) for n in self._spans[numbers, 1])
        return Packed(torch.from_numpy(tokens), torch.from_numpy(present), lengths)
