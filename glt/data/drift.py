"""Whether new recordings are like those of a reference: the camera, unit, frame rate, joint order and mix of classes.

The unit of every test is a clip, not a frame: frames of a clip are alike. Kolmogorov-Smirnov for what is measured of a
clip, chi-square for the mix of labels, Holm's correction over all of them, and a least effect besides, so that a large
set raises no alarm over a trifle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from glt import artifact
from glt.data.clips import ClipStore
from glt.data.findings import Finding
from glt.errors import GltError
from glt.reporter import Reporter

CLIPS = 500  # drawn of a store: enough to see what matters, little enough to keep beside a model
ALPHA = 0.05  # that any alarm at all is raised between two random halves of one set
_SEED = 0
# The least change of the median that counts: a share of the reference's, or, of heights, metres.
_LEAST = {"bone": 0.05, "speed": 0.2, "length": 0.2, "height": 0.1, "persons": 0.2}
_LEAST_MIX = 0.1  # of the labels, total variation


@dataclass(frozen=True)
class Summary:
    """What is kept of a store to compare others with.

    Attributes:
        layout: name of the skeleton layout.
        joints: its joints.
        measured: a value a clip, of at most `CLIPS` of them: ``length`` (frames), ``persons``, ``height`` (of the
            centre joint), ``speed/<joint>`` (mean, a second), ``bone/<joint>-<joint>`` (median).
        labels: clips of each class, of all clips; the empty name is for those without a label.
    """

    layout: str
    joints: tuple[str, ...]
    measured: dict[str, NDArray[np.float64]]
    labels: dict[str, int]

    def write(self, path: Path) -> None:
        """As JSON, four digits a value."""
        values = {name: [float(f"{value:.4g}") for value in column] for name, column in self.measured.items()}
        whole = {"layout": self.layout, "joints": self.joints, "measured": values, "labels": self.labels}
        artifact.write_bytes(path, json.dumps(whole, sort_keys=True, separators=(",", ":")).encode())

    @classmethod
    def read(cls, path: Path) -> Summary:
        """The inverse of `write`; a file that is none is a GltError."""
        try:
            whole = json.loads(Path(path).read_text(encoding="utf-8"))
            measured = {str(name): np.array(column, float) for name, column in whole["measured"].items()}
            labels = {str(label): int(count) for label, count in whole["labels"].items()}
            return cls(str(whole["layout"]), tuple(whole["joints"]), measured, labels)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise GltError(
                f"{path}: not a summary of recordings ({error!r:.100}); ingest the reference again"
            ) from error


def summarise(store: ClipStore, reporter: Reporter, clips: int = CLIPS) -> Summary:
    """Measure at most `clips` clips, drawn at random but always the same."""
    index, skeleton = store.index, store.skeleton
    rows = np.sort(np.random.default_rng(_SEED).permutation(len(index))[:clips])
    ends = np.array(skeleton.bones)
    columns = [f"speed/{joint}" for joint in skeleton.joints]
    columns += [f"bone/{skeleton.joints[a]}-{skeleton.joints[b]}" for a, b in skeleton.bones]
    measured = []
    for number, row in enumerate(rows):
        frames, present = store.clip(int(row))
        seen = frames[present]
        both = present[1:] & present[:-1]
        steps = np.linalg.norm(frames[1:] - frames[:-1], axis=-1)[both]  # n, K
        speed = steps.mean(axis=0) * skeleton.rate if len(steps) else np.zeros(len(skeleton.joints))
        bone = np.median(np.linalg.norm(seen[:, ends[:, 0]] - seen[:, ends[:, 1]], axis=-1), axis=0)
        height = float(np.median(seen[:, skeleton.centre, skeleton.up]))
        measured.append([*speed, *bone, len(frames), present.any(axis=0).sum(), height])
        if number % 100 == 0 or number + 1 == len(rows):
            reporter.progress("summary", number + 1, len(rows))
    table = np.array(measured, float).reshape(len(rows), -1)
    names = [*columns, "length", "persons", "height"]
    labels = {str(label): int(count) for label, count in index["label"].fillna("").value_counts().items()}
    return Summary(skeleton.name, skeleton.joints, dict(zip(names, table.T, strict=True)), labels)


def drift(new: Summary, reference: Summary, alpha: float = ALPHA) -> list[Finding]:
    """How the new recordings differ from the reference's; nothing for two random halves of a set, with 1 - alpha."""
    if new.joints != reference.joints:
        text = (
            f"layout {new.layout} has other joints than the reference's {reference.layout}: nothing else is comparable"
        )
        return [Finding("layout", "alarm", text)]
    tests: list[tuple[float, Finding | None]] = [
        _moved(name, new.measured[name], reference.measured[name]) for name in sorted(new.measured)
    ]
    tests.append(_mix(new.labels, reference.labels))
    classes = [label for label in (*reference.labels, *new.labels) if label]
    found = [
        finding
        for (_, finding), real in zip(tests, _holm([p for p, _ in tests], alpha), strict=True)
        if real and finding is not None
    ]
    for one, other, what, severity in (
        (new.labels, reference.labels, "new", "warning"),
        (reference.labels, new.labels, "missing", "warning"),
    ):
        names = sorted({label for label in classes if label in one and label not in other})
        # Of a class of few clips a smaller draw may well have none.
        expected = sum(other.values()) / max(sum(one.values()), 1)
        names = [label for label in names if one[label] * expected >= _SURE]
        if names:
            found.append(Finding("classes", severity, f"{len(names)} classes are {what}", tuple(names)))  # type: ignore[arg-type]
    return found


_SURE = 10.0  # clips expected: none of them is a chance of e^-10


def _moved(name: str, new: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[float, Finding | None]:
    """p-value of a measure, and what to say if the change matters."""
    kind, _, what = name.partition("/")
    p = float(stats.ks_2samp(new, reference, method="asymp").pvalue)
    before, after = float(np.median(reference)), float(np.median(new))
    if kind == "persons":
        before, after = float(reference.mean()), float(new.mean())
    change = abs(after - before) / (1.0 if kind == "height" else max(abs(before), 1e-9))
    if change < _LEAST[kind]:
        return p, None
    said = {
        "bone": f"bone {what}",
        "speed": f"speed of {what}",
        "length": "clip length",
        "height": "height of the centre",
        "persons": "persons a clip",
    }[kind]
    text = f"{said}: median {after:.3g}, reference {before:.3g} (Kolmogorov-Smirnov, p = {p:.1g})"
    severity = "warning" if kind in ("length", "persons") else "alarm"
    return p, Finding(kind, severity, text, (what,) if what else ())  # type: ignore[arg-type]


def _mix(new: Mapping[str, int], reference: Mapping[str, int]) -> tuple[float, Finding | None]:
    """The same of how often each class comes."""
    classes = sorted(set(new) | set(reference))
    table = np.array([[counts.get(label, 0) for label in classes] for counts in (new, reference)], float)
    if len(classes) < 2:
        return 1.0, None
    p = float(stats.chi2_contingency(table).pvalue)
    shares = table / table.sum(axis=1, keepdims=True)
    total_variation = float(np.abs(shares[0] - shares[1]).sum() / 2)
    if total_variation < _LEAST_MIX:
        return p, None
    most = int(np.argmax(np.abs(shares[0] - shares[1])))
    label = classes[most] or "no label"
    text = (
        f"mix of classes: {label} is {shares[0, most]:.0%}, reference {shares[1, most]:.0%} (chi-square, p = {p:.1g})"
    )
    return p, Finding("labels", "warning", text, (label,))


def _holm(p: list[float], alpha: float) -> list[bool]:
    """Which of the tests hold together (Holm 1979)."""
    order, real = np.argsort(p), [False] * len(p)
    for rank, place in enumerate(order):
        if p[place] > alpha / (len(p) - rank):
            break
        real[place] = True
    return real
