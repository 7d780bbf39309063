"""Checks of what a set of recordings lacks: clips that repairs changed, and frames without anybody."""

from __future__ import annotations

from glt.data import clip_warnings
from glt.data.clips import ClipStore
from glt.data.findings import Finding, Severity

_MOST = 0.5  # share of the clips, above which their repairs are a warning
_LEAST = 0.01  # share of a clip's points, above which it counts as repaired
_GAPS = 0.1  # share of the frames without anybody, above which they are a warning


def findings(store: ClipStore) -> list[Finding]:
    """Warnings `repairs` and `gaps`; frames without anybody are counted in a note if they are few."""
    return [finding for finding in (_repairs(store), _gaps(store)) if finding is not None]


def _repairs(store: ClipStore) -> Finding | None:
    repaired = clip_warnings.repairs(store.index, len(store.skeleton.joints), _LEAST)
    count, total = int((repaired["warnings"] != "").sum()), len(repaired)
    if count <= _MOST * total:
        return None
    checks = ", ".join(f"{one.count} {one.check}" for one in clip_warnings.by_check(repaired))
    text = f"repairs changed {count} of {total} clips ({checks}): look at the recordings before training on them"
    return Finding("repairs", "warning", text, tuple(map(str, repaired["name"][repaired["warnings"] != ""][:20])))


def _gaps(store: ClipStore) -> Finding | None:
    names, empty, frames = [], 0, 0
    for row, name in enumerate(store.index["name"]):
        present = store.present(row)
        frames += len(present)
        if missing := len(present) - int(present.any(axis=1).sum()):
            empty += missing
            names.append(str(name))
    if not empty:
        return None
    severity: Severity = "warning" if empty > _GAPS * frames else "note"
    text = f"nobody is shown in {empty} of {frames} frames, within {len(names)} clips"
    return Finding("gaps", severity, text, tuple(names[:20]))
