"""The registered model's face to MLflow: `mlflow.pyfunc.load_model` calls `_load_pyfunc` on the artifact's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from glt.serving.model import Classifier


class ClassifierModel:
    """Answers for clips, the way MLflow asks."""

    def __init__(self, path: Path) -> None:
        """Open the classifier at `path`; one that is not whole is a GltError."""
        self._classifier = Classifier(path)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Label and confidence of each clip.

        Args:
            model_input: a DataFrame with a column `frames`, or a list; of joint positions [T, P, K, 3] or [T, K, 3].
            params: none are known.
        """
        clips = model_input["frames"] if isinstance(model_input, pd.DataFrame) else model_input
        return self._classifier.predict(list(clips))[["label", "confidence"]]


def _load_pyfunc(path: str) -> ClassifierModel:
    return ClassifierModel(Path(path))
