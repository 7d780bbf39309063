"""Recordings -> predicted actions."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pandas as pd

from glt.data.clips import ClipStore
from glt.data.formats import ntu
from glt.data.ingest import ingest
from glt.errors import GltError
from glt.lifecycle import registry, sources
from glt.outputs import FileKind
from glt.recipe import parse, with_changes
from glt.reporter import Silent
from glt.serving.model import Predictor

_NAMELESS = "S000C000P000R000-"  # before the name of a recording that has none of the format's

PREDICTIONS = FileKind("table of predictions", lambda content: content.startswith(b"clip,label,confidence\n"))


def predict(recordings: str, model: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read recordings as the model's recipe reads them, and classify each clip.

    Args:
        recordings: a file, folder or archive in the recipe's format, ``s3://bucket/prefix`` or ``dvc+...``.
        model: ``name/version``, ``name@alias``, or a name for its champion; the only registered model if not given.

    Returns:
        One row per clip (clip, label, confidence), and one row per rejected recording (source, check, reason).

    Raises:
        GltError: there is no such model or no such recordings, or the recordings have another layout.
    """
    version = registry.find(model or registry.only_model())
    predictor = Predictor(version.folder())
    trained = parse(predictor.recipe, f"of {version.name}/{version.version}")
    reading = with_changes(trained, {"data": {"max_rejects": 1, "missing_list": False}}, trained.name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with sources.local_folder(sources.resolve(recordings)) as fetched:
            given = _named(Path(fetched), folder / "named") if reading.data.format == "ntu" else fetched
            ingest(given, reading, folder / "clips", {}, Silent(), folder / "segments")
        store = ClipStore(folder / "clips")
        if store.skeleton.joints != predictor.skeleton.joints:
            raise GltError(
                f"recordings {recordings}: layout {store.skeleton.name}, but {version.name}/{version.version} knows "
                f"{predictor.skeleton.name}; give recordings of that layout"
            )
        answers = predictor.predict([store.clip(number)[0] for number in range(len(store.index))])
        answers.insert(0, "clip", store.index["name"].str.removeprefix(_NAMELESS).to_numpy())
        rejected = store.rejected[["source", "check", "reason"]].copy()
        rejected["source"] = rejected["source"].str.replace(_NAMELESS, "", regex=False)
        return answers[["clip", "label", "confidence"]], rejected


def _named(recordings: Path, named: Path) -> Path:
    """Loose recordings under names that the format ntu takes: subject, camera and label are not needed to predict.

    Args:
        recordings: a file or a folder; others, and archives, are returned as they are.
        named: a folder to create for links to the recordings.
    """
    files = [recordings] if recordings.is_file() else sorted(file for file in recordings.rglob("*") if file.is_file())
    loose = [file for file in files if file.suffix.lower() == ".skeleton"]
    if not loose or len(loose) < len(files) or all(ntu.numbers(file.name) for file in loose):
        return recordings
    root = recordings.parent if recordings.is_file() else recordings
    for file in loose:
        relative = file.relative_to(root)
        link = named / relative.with_name(relative.name if ntu.numbers(file.name) else f"{_NAMELESS}{relative.name}")
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, link)
    return named
