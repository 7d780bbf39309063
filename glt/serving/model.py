"""Prediction with a verified classifier: joint positions of a clip in, label and confidence out."""

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

_TIMED = 9  # predictions per model, after one to warm up


class Predictor:
    """A `classifier` artifact, ready to predict.

    Attributes:
        classes: names of the classes.
        skeleton: the skeleton layout that clips must have.
        persons: P, the largest number of persons in a clip.
        recipe: that the classifier was trained with, as JSON values.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        """Open the folder at `path`; an incomplete or damaged one raises GltError."""
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
        """Shape of the largest clip that is not shortened: [T_max, P, K, 3]."""
        return (self._model.encoder.config.max_frames, self.persons, len(self.skeleton.joints), 3)

    @torch.no_grad()
    def predict(self, frames: Sequence[ArrayLike], batch: int = 64) -> pd.DataFrame:
        """One row per clip: label, confidence, and p_<class> for each class.

        Args:
            frames: joint positions of each clip, [T, P, K, 3] or, for one person, [T, K, 3], in the unit of the
                layout. All coordinates of an absent person are zero; the most active person comes first.
            batch: clips per forward pass.

        Raises:
            GltError: no clip, or a clip with a wrong shape, no frames, no person, or a coordinate that is not finite.
        """
        clips = [self._motions(clip, index) for index, clip in enumerate(frames)]
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

    def _motions(self, frames: ArrayLike, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        try:
            clip = np.asarray(frames, np.float32)
        except (TypeError, ValueError) as error:
            raise GltError(f"predict: clip {index} is not an array of numbers: {error}") from error
        if clip.ndim == 3:
            clip = clip[:, None]
        joints = len(self.skeleton.joints)
        if clip.ndim != 4 or clip.shape[2:] != (joints, 3) or not len(clip) or clip.shape[1] > self.persons:
            raise GltError(
                f"predict: clip {index} is {list(clip.shape)}; give [frames, 1 to {self.persons} persons, "
                f"{joints} joints of {self.skeleton.name}, 3]"
            )
        if not np.isfinite(clip).all():
            raise GltError(f"predict: clip {index} has coordinates that are not finite; give an absent person zeros")
        clip = np.pad(clip, ((0, 0), (0, self.persons - clip.shape[1]), (0, 0), (0, 0)))
        present: NDArray[np.bool_] = np.any(clip, axis=(2, 3))
        if not present.any():
            raise GltError(f"predict: clip {index} shows nobody")
        return motion_tokens(clip, present, self.skeleton, self._motion), present


def latency(models: Sequence[Predictor]) -> tuple[float, ...]:
    """Milliseconds per prediction of the longest clip on one thread, for each model: medians, measured in turns."""
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
