"""A verified classifier that answers: joint positions of a clip in, label and confidence out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from glt.data.layouts import Skeleton
from glt.errors import GltError
from glt.motion.augment import fit
from glt.motion.disentangle import motion_tokens
from glt.motion.packed import Packed
from glt.recipe import MotionConfig
from glt.training import classifier

_TIMED = 9  # predictions of each model, after one that warms it up


class Predictor:
    """A classifier artifact, ready to predict.

    Attributes:
        classes: names of the classes.
        skeleton: the joints' layout that clips must have.
        persons: P, the most persons of a clip.
        recipe: it was trained by, as JSON values.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        """Open the folder at `path`; one that is not whole is a GltError."""
        self._device = torch.device(device)
        self._model, config = classifier.load_classifier(Path(path))
        self._model.to(self._device)
        self.recipe: dict[str, Any] = config["recipe"]
        self._motion = MotionConfig.model_validate(config["motion"])
        self.skeleton = Skeleton.from_dict(config["skeleton"])
        self.classes: tuple[str, ...] = self._model.classes
        self.persons = self._model.encoder.persons

    @property
    def longest(self) -> tuple[int, int, int, int]:
        """Shape of the largest clip that is not cut: [T_max, P, K, 3]."""
        return (self._model.encoder.config.max_frames, self.persons, len(self.skeleton.joints), 3)

    @torch.no_grad()
    def predict(self, frames: Sequence[ArrayLike], batch: int = 64) -> pd.DataFrame:
        """A row a clip: label, confidence, and a column p_<class> for each class.

        Args:
            frames: joint positions of each clip, [T, P, K, 3] or, of one person, [T, K, 3]; in the layout's unit.
                Where a person is absent all coordinates are zero. The most active person comes first.
            batch: clips at a time.

        Raises:
            GltError: a clip has another shape, no frame, nobody in it, or a coordinate that is not finite.
        """
        clips = [self._motions(clip, number) for number, clip in enumerate(frames)]
        if not clips:
            raise GltError("predict: no clip given")
        rows = []
        for start in range(0, len(clips), batch):
            tokens, present = zip(*clips[start : start + batch], strict=True)
            packed = Packed(
                torch.from_numpy(np.concatenate(tokens)),
                torch.from_numpy(np.concatenate(present)),
                tuple(len(clip) for clip in tokens),
                self._model.encoder.global_tokens,
            )
            packed = fit(packed.to(self._device), self._model.encoder.config)
            rows.append(self._model(packed).softmax(1).cpu().numpy())
        return classifier.answers(np.concatenate(rows), self.classes)

    def _motions(self, frames: ArrayLike, number: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        try:
            clip = np.asarray(frames, np.float32)
        except (TypeError, ValueError) as error:
            raise GltError(f"predict: clip {number} is not an array of numbers: {error}") from error
        if clip.ndim == 3:
            clip = clip[:, None]
        joints = len(self.skeleton.joints)
        if clip.ndim != 4 or clip.shape[2:] != (joints, 3) or not len(clip) or clip.shape[1] > self.persons:
            raise GltError(
                f"predict: clip {number} is {list(clip.shape)}; give [frames, 1 to {self.persons} persons, "
                f"{joints} joints of {self.skeleton.name}, 3]"
            )
        if not np.isfinite(clip).all():
            raise GltError(f"predict: clip {number} has coordinates that are not finite; give an absent person zeros")
        clip = np.pad(clip, ((0, 0), (0, self.persons - clip.shape[1]), (0, 0), (0, 0)))
        present: NDArray[np.bool_] = np.any(clip, axis=(2, 3))
        if not present.any():
            raise GltError(f"predict: clip {number} shows nobody")
        return motion_tokens(clip, present, self.skeleton, self._motion), present


def latency(models: Sequence[Predictor]) -> tuple[float, ...]:
    """Milliseconds that the longest clip takes each model on one thread: the median of a few, measured in turns."""
    clips = [np.random.default_rng(0).normal(size=model.longest) for model in models]
    took: list[list[float]] = [[] for _ in models]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(1 + _TIMED):
            for model, clip, times in zip(models, clips, took, strict=True):
                started = time.perf_counter()
                model.predict([clip])
                times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return tuple(1000 * statistics.median(times[1:]) for times in took)
