"""Recordings -> predicted actions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from glt.data.clips import ClipStore
from glt.data.ingest import REJECT_LIST, ingest, reject_list
from glt.errors import GltError
from glt.lifecycle import registry, sources
from glt.outputs import FileKind
from glt.recipe import Recipe, parse, with_changes
from glt.reporter import Silent
from glt.serving.model import Predictor
from glt.settings import home

PREDICTIONS = FileKind("table of predictions", lambda content: content.startswith(b"clip,label,confidence\n"))


def predict(recordings: str, model: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read recordings as the model's recipe reads them, and classify each clip.

    Args:
        recordings: a file, folder or archive in the recipe's format, ``s3://bucket/prefix`` or ``dvc+...``.
        model: ``name/version``, ``name@alias``, or a name for its champion; the only registered model if not given.

    Returns:
        One row per clip (clip, label, confidence), and one row per rejected recording (source, check, reason).

    Recordings of another frame rate are resampled to the model's.

    Raises:
        GltError: there is no such model or no such recordings, or the recordings have another layout, axis or unit.
    """
    version = registry.find(model or registry.only_model())
    predictor = Predictor(version.folder())
    trained = parse(predictor.recipe, f"of {version.name}/{version.version}")
    skeleton = predictor.skeleton
    changes = {"max_rejects": 1, "missing_list": False, "rate": skeleton.rate}
    reading = with_changes(trained, {"data": changes}, trained.name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with sources.local_folder(sources.resolve(recordings)) as fetched:
            _read(fetched, reading, folder)
        store = ClipStore(folder / "clips")
        if store.skeleton.joints != skeleton.joints:
            raise GltError(
                f"recordings {recordings}: layout {store.skeleton.name}, but {version.name}/{version.version} knows "
                f"{skeleton.name}; give recordings of that layout"
            )
        for field in ("up", "unit"):
            given, known = getattr(store.skeleton, field), getattr(skeleton, field)
            if given != known:
                raise GltError(
                    f"recordings {recordings}: `{field}` is {_shown(given)}, but {version.name}/{version.version} was "
                    f"trained on {_shown(known)}; correct `{field}` in skeleton.yaml, or convert the recordings"
                )
        answers = predictor.predict([store.clip(number)[0] for number in range(len(store.index))])
        answers.insert(0, "clip", store.index["name"].to_numpy())
        return answers[["clip", "label", "confidence"]], store.rejected[["source", "check", "reason"]]


def _read(recordings: Path, recipe: Recipe, folder: Path) -> None:
    """Ingest recordings into a temporary folder; a list of rejects that an error names is kept where it can be read."""
    try:
        ingest(recordings, recipe, folder / "clips", {}, Silent(), folder / "segments", any_name=True)
    except GltError as error:
        listed, kept = reject_list(folder / "clips"), home() / "reports" / "predict.rejected.csv"
        if not listed.exists():
            raise
        kept.parent.mkdir(parents=True, exist_ok=True)
        REJECT_LIST.write(kept, listed.read_bytes())
        raise GltError(str(error).replace(str(listed), str(kept))) from error


def _shown(value: int | str) -> str:
    """An axis or a unit as skeleton.yaml has it."""
    return "xyz"[value] if isinstance(value, int) else value
