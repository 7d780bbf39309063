"""Recordings -> clips -> motions."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glt import artifact
from glt.analysis.page import PAGE
from glt.data import clip_warnings, duplicates, findings, label_account
from glt.data.clips import ClipStore
from glt.data.drift import Summary, summarise
from glt.data.findings import Finding
from glt.data.ingest import REJECT_LIST, reject_list
from glt.data.ingest import ingest as ingest_recordings
from glt.errors import GltError
from glt.lifecycle import notes, registry, run_artifacts, sources, tracking
from glt.lifecycle.code_version import current_code_version
from glt.lifecycle.sources import Source
from glt.lifecycle.sources.local import ChangedRecordings, LocalSource
from glt.recipe import Recipe, load
from glt.reporter import ConsoleReporter
from glt.settings import home
from glt.steps import findings as recorded
from glt.steps.provenance import provenance, versions_of
from glt.text import file_name

_LOG = logging.getLogger(__name__)
SUMMARY = "summary.json"


def ingest(
    recordings: str, recipe: str, out: Path, data_version: str = "", code_version: str = "", page: Path | None = None
) -> dict[str, float]:
    """Read, check and store recordings: write the ``clips`` artifact to `out`, and an HTML page about them.

    The page shows rejected files with reasons, duplicates and leaks, and how the recordings differ from those that the
    champion was trained on.

    Args:
        recordings: a folder, an archive, a file, ``s3://bucket/prefix``, or ``dvc+<git repository>@<revision>``.
        recipe: name, path or text of the recipe.
        out: path of the clips.
        data_version: version that the recordings must have; computed if not given. Objects that arrived in a bucket
            since it had that version are left to the next run.
        code_version: hash of the source tree; computed if not given.
        page: path of the page; ``<out>.html`` if not given.

    Raises:
        GltError: what is wrong with the recordings, and the remedy.
    """
    from glt.analysis.data_report import analyse_clips, write_data_report

    settings, page = load(recipe), page or Path(f"{out}.html")
    artifact.check_replaceable(out, "clips")
    PAGE.check(page)
    REJECT_LIST.check(reject_list(Path(out)))
    source = sources.resolve(recordings, data_version)
    if isinstance(source, LocalSource) and Path(out).resolve().is_relative_to(source.path.resolve()):
        raise GltError(f"{out}: it lies in the recordings {source.path}; give another path")
    if data_version and source.version != data_version:
        raise GltError(
            f"{recordings}: is version {source.version}, not {data_version}; start a new run for the new recordings"
        )
    version = tracking.Versions(source.version, code_version or current_code_version())
    with (
        artifact.reserve(out),
        tracking.step(settings, version, "ingest") as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        segments = home() / "segments"
        _ingest(source, settings, out, provenance(version, settings, run.run_id), run, segments)
        clips = ClipStore(out, verify=False)
        run.dataset(settings.data.dataset, source.version, source.address, "training")
        if len(clips.rejected):
            run.file(clips.path / "rejected.parquet")
        cache = duplicates.cache_file(segments, settings.data.dataset)
        analysis = analyse_clips(clips, settings, run, _reference(settings, source.version), cache)
        write_data_report(page, clips, settings, analysis, notes.links(run.parent_id))
        analysis.summary.write(Path(folder) / SUMMARY)
        run.page(page, notes.DATA, "data-report")
        run.file(Path(folder) / SUMMARY, "data")
        findings.write(Path(folder) / recorded.FILE, analysis.findings)
        run.file(Path(folder) / recorded.FILE, "data")
        _log_findings(analysis.findings, page)
        if clips.account is not None:
            _LOG.info("%s", clips.account.describe(clips.left_out["check"]))
        if warned := clip_warnings.count(clips.index):
            _LOG.info("%s", clip_warnings.describe(clips.index))
        metrics = {
            "data/clips": float(len(clips.index)),
            "data/frames": float(clips.index["length"].sum()),
            "data/labelled": float(clips.index["label"].notna().sum()),
            "data/rejected": float(clips.files_rejected),
            "data/clips_with_warning": float(warned),
            "data/near_duplicates": float(len(analysis.pairs)),
            **_severity_counts(analysis.findings),
        }
        run.metrics(metrics)
    return metrics


def _ingest(
    source: Source, recipe: Recipe, out: Path, info: Mapping[str, Any], run: tracking.StepRun, segments: Path
) -> None:
    """Ingest what was listed; if it changes meanwhile, no clips are left that claim to be made from it."""
    written = False
    try:
        with sources.local_folder(source) as recordings:
            ingest_recordings(recordings, recipe, out, info, run, segments)
            written = True
    except ChangedRecordings:
        if written:
            artifact.delete(artifact.real_path(out))
        raise


def inspect(clips: Path, recipe: str, out: Path, reference: str = "") -> dict[str, float]:
    """Write the HTML page about a folder of clips again, compared with a reference if one is given.

    Args:
        clips: the ``clips`` artifact.
        recipe: name, path or text of the recipe; its protocol defines what a leak is.
        out: path of the page.
        reference: another ``clips`` artifact, or a summary.json that `ingest` logged to MLflow.

    Raises:
        GltError: an artifact is incomplete, or the reference is neither.
    """
    from glt.analysis.data_report import analyse_clips, write_data_report

    PAGE.check(out)
    settings, store = load(recipe), ClipStore(clips)
    reporter = ConsoleReporter()
    summary: Summary | None = None
    if reference:
        path = Path(reference)
        summary = summarise(ClipStore(path), reporter) if path.is_dir() else Summary.read(path)
    analysis = analyse_clips(store, settings, reporter, summary)
    write_data_report(Path(out), store, settings, analysis)
    _log_findings(analysis.findings, Path(out))
    return {
        "data/clips": float(len(store.index)),
        "data/near_duplicates": float(len(analysis.pairs)),
        **_severity_counts(analysis.findings),
    }


def _reference(recipe: Recipe, data_version: str) -> Summary | None:
    """The summary of the recordings that the champion was trained on; None if they are the same, or unknown."""
    champion = registry.champion(recipe.model_name)
    trained = champion.tags.get("data.version", "") if champion else ""
    if trained in ("", data_version):
        return None
    return run_artifacts.read_step_artifact(recipe, trained, "ingest", f"data/{SUMMARY}", Summary.read)


def _severity_counts(findings: Sequence[Finding]) -> dict[str, float]:
    severities = [finding.severity for finding in findings]
    return {"data/alarms": float(severities.count("alarm")), "data/warnings": float(severities.count("warning"))}


def _log_findings(findings: Sequence[Finding], page: Path) -> None:
    """Log alarms, unmatched labels and the path of the page, for users who do not open it."""
    for finding in findings:
        if finding.severity == "alarm":
            _LOG.warning("alarm: %s", finding.text)
        elif finding.check == label_account.CHECK:
            _LOG.warning("%s: %s", finding.severity, finding.text)
    _LOG.info("data report: %s", page)


def disentangle(
    clips: Path, recipe: str, out: Path, data_version: str = "", code_version: str = ""
) -> dict[str, float]:
    """Disentangle clips into global translation and local motion: write the ``motions`` artifact to `out`.

    Also splits the clips by the recipe's protocol, fits the displacement bins on the training split, and draws some
    clips as recorded, disentangled and augmented.

    Raises:
        GltError: the protocol leaves a split empty.
    """
    from glt.analysis import examples
    from glt.motion.disentangle import Motions, write_motions

    artifact.check_replaceable(out, "motions")
    settings = load(recipe)
    store = ClipStore(clips)
    version = versions_of(store.info, data_version, code_version)
    with artifact.reserve(out), tracking.step(settings, version, "disentangle") as run:
        run.dataset(settings.data.dataset, version.data, str(store.info.get("source", clips)), "training")
        cache = duplicates.cache_file(home() / "segments", settings.data.dataset)
        write_motions(store, settings, out, provenance(version, settings, run.run_id), run, cache)
        motions = Motions(out, verify=False)
        index = motions.index
        for row in examples.choose(motions):
            run.figure(examples.draw(store, motions, settings, row), f"motion-{file_name(index['name'][row])}.png")
        split = index["split"]
        metrics = {
            "data/train": float((split == "train").sum()),
            "data/test": float((split == "test").sum()),
            "data/unused": float((split == "unused").sum()),
            "data/leaked": float((~index["clean"]).sum()),
        }
        run.metrics(metrics)
    return metrics
