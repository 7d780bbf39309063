"""The model that MLflow loads: `mlflow.pyfunc.load_model` calls `_load_pyfunc` with the artifact's folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glt.errors import GltError
from glt.serving.keys import verifying_keys
from glt.serving.model import Predictor
from glt.serving.model_folder import MLMODEL, check_mlmodel, check_names, file_digests
from glt.serving.signature import verify


class PyfuncPredictor:
    """A `Predictor` with the interface of MLflow's Python function models."""

    def __init__(self, path: Path) -> None:
        """Open the classifier at `path`; an incomplete or damaged one raises GltError."""
        self._predictor = Predictor(path)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Label and confidence of each clip.

        Args:
            model_input: a DataFrame with a column `frames`, or a list; of joint positions [T, P, K, 3] or [T, K, 3].
            params: none are known.

        Raises:
            GltError: there is no column `frames`, or a clip is not such an array.
        """
        if isinstance(model_input, pd.DataFrame):
            if "frames" not in model_input:
                raise GltError(f"predict: the table has {list(model_input)}; give the clips in a column `frames`")
            model_input = model_input["frames"]
        clips = []
        for index, clip in enumerate(model_input):
            try:
                clips.append(np.asarray(clip, np.float32))
            except (ValueError, TypeError) as error:
                raise GltError(
                    f"predict: clip {index} is ragged or holds something other than numbers ({error})"
                ) from error
        return self._predictor.predict(clips)[["label", "confidence"]]


def _load_pyfunc(path: str) -> PyfuncPredictor:
    """Load the classifier at `path`, in a model's folder, after it was verified.

    Its own manifest is always verified. Where GLT_VERIFYING_KEYS is set, the folder is copied, one of the keys must
    have signed the copy, and that is loaded.

    Raises:
        GltError: the folder is damaged, holds anything that is not part of a model, or is not signed.
    """
    if not verifying_keys():
        return PyfuncPredictor(Path(path))
    stored = Path(path).parent.parent
    with tempfile.TemporaryDirectory() as temporary:
        if not (stored / MLMODEL).is_file():
            raise GltError(f"{path}: not in the folder of a model, so not signed; load the folder that holds {MLMODEL}")
        folder = Path(shutil.copytree(stored, Path(temporary) / "model", symlinks=True))
        check_names(file_digests(folder, str(stored)), str(stored))
        verify(folder, str(stored))
        return PyfuncPredictor(check_mlmodel(folder, str(stored)))
