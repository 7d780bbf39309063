"""Classifier -> registry: register and promote."""

from __future__ import annotations

from pathlib import Path

from glt import artifact
from glt.errors import GltError
from glt.lifecycle import notes, registry, tracking
from glt.lifecycle.gate import Verdict
from glt.recipe import load
from glt.steps.provenance import versions_of


def register(classifier: Path, verdict: Path, recipe: str, data_version: str = "", code_version: str = "") -> str:
    """Register the classifier with the alias `challenger` and the gate's reason; return the version's number.

    Registering the same content again returns the existing version, with the evidence of this verdict.

    Raises:
        GltError: the verdict is on another classifier.
    """
    settings, info = load(recipe), artifact.open_artifact(classifier, "classifier")
    version, decision = versions_of(info, data_version, code_version), Verdict.read(verdict)
    if decision.candidate_digest not in ("", artifact.digest(classifier)):
        raise GltError(f"{verdict}: a verdict on another classifier than {classifier}; run glt gate on this one")
    with tracking.step(settings, version, "register") as run:
        model = registry.register(Path(classifier), settings, version, decision, run.run_id)
        tracking.log_on_parent(settings, version, {}, {notes.MODEL: model.name, notes.VERSION: model.version})
        notes.describe_run(run.parent_id)
    return model.version


def promote(version: str, verdict: Path, recipe: str, data_version: str = "", code_version: str = "") -> None:
    """Make `version` the champion; the champion it replaces becomes `previous`.

    Raises:
        GltError: the gate failed, there is no such version, or the champion has changed.
    """
    settings, decision = load(recipe), Verdict.read(verdict)
    if not decision.passed:
        raise GltError(f"{settings.model_name} v{version}: {decision.reason}; it stays challenger")
    with tracking.step(settings, tracking.Versions(data_version, code_version), "promote"):
        registry.promote(settings.model_name, version, decision.reason, expected_champion=decision.champion_version)
