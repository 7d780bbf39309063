"""Recordings -> clips -> motions."""

from __future__ import annotations

import tempfile
from pathlib import Path

from glt.analysis import examples
from glt.data.clips import ClipStore
from glt.data.ingest import ingest as ingest_recordings
from glt.errors import GltError
from glt.lifecycle import tracking, versions
from glt.motion.disentangle import Motions, write_motions
from glt.recipe import load
from glt.steps.provenance import provenance, versions_of


def ingest(recordings: str, recipe: str, out: Path, data_version: str = "", code_version: str = "") -> dict[str, float]:
    """Read, check and store recordings: the ``clips`` artifact at `out`.

    Args:
        recordings: a folder, an archive, a file, or ``dvc+<git repository>@<revision>``.
        recipe: name, path or text of the recipe.
        out: where the clips go.
        data_version: DVC md5 that the recordings must have; computed if not given.
        code_version: hash of the source tree; computed if not given.

    Raises:
        GltError: what is wrong with the recordings, and the remedy.
    """
    settings = load(recipe)
    found = versions.data_version(recordings)
    if data_version and found != data_version:
        raise GltError(f"{recordings}: is version {found}, not {data_version}; start a new run for the new recordings")
    version = tracking.Versions(found, code_version or versions.code_version())
    with tracking.step(settings, version, "ingest") as run, tempfile.TemporaryDirectory() as folder:
        source = versions.fetch(recordings, Path(folder))
        segments = tracking.home() / "segments"
        ingest_recordings(source, settings, out, provenance(version, settings, run.run_id), run, segments)
        clips = ClipStore(out, verify=False)
        run.dataset(settings.data.dataset, found, recordings, "training")
        if len(clips.rejected):
            run.file(clips.path / "rejected.parquet")
        metrics = {
            "data/clips": float(len(clips.index)),
            "data/frames": float(clips.index["length"].sum()),
            "data/labelled": float(clips.index["label"].notna().sum()),
            "data/rejected": float(len(clips.rejected)),
        }
        run.metrics(metrics)
    return metrics


def disentangle(
    clips: Path, recipe: str, out: Path, data_version: str = "", code_version: str = ""
) -> dict[str, float]:
    """Split clips into global translation and local motion: the ``motions`` artifact at `out`.

    Also splits them by the recipe's protocol, fits the displacement bins on the training side, and draws a clip as it
    is, disentangled and augmented.

    Raises:
        GltError: the protocol leaves a side empty.
    """
    settings = load(recipe)
    store = ClipStore(clips)
    version = versions_of(store.info, data_version, code_version)
    with tracking.step(settings, version, "disentangle") as run:
        run.dataset(settings.data.dataset, version.data, str(store.info.get("source", clips)), "training")
        write_motions(store, settings, out, provenance(version, settings, run.run_id), run)
        motions = Motions(out, verify=False)
        index = motions.index
        for number in examples.choose(motions):
            run.figure(examples.draw(store, motions, settings, number), f"motion-{index['name'][number]}.png")
        side = index["side"]
        metrics = {
            "data/train": float((side == "train").sum()),
            "data/test": float((side == "test").sum()),
            "data/unused": float((side == "unused").sum()),
            "data/leaked": float((~index["clean"]).sum()),
        }
        run.metrics(metrics)
    return metrics
