"""Drift: do new recordings differ from a reference in camera, unit, frame rate, joint order or mix of classes?

The unit of every test is the clip, since the frames of one clip are correlated. Measures of clips are compared by the
Kolmogorov-Smirnov test, the mix of classes by the chi-square test, with Holm's correction over all tests and a minimum
effect size, so that a large set raises no alarm over a negligible difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glt import artifact
from glt.data.clips import ClipStore
from glt.data.findings import Finding
from glt.errors import GltError
from glt.reporter import Reporter

CLIPS = 500  # sampled from a store: enough to detect relevant changes, few enough to store with a model
ALPHA = 0.05  # probability of any finding between two random halves of one set
_SEED = 0
# The smallest change of the median that counts, relative to the reference's (height: in metres).
_MIN_CHANGE = {"bone": 0.05, "speed": 0.2, "length": 0.2, "height": 0.1, "persons": 0.2}
_MIN_MIX_CHANGE = 0.1  # of the labels, total variation distance


@dataclass(frozen=True)
class Summary:
    """Measures of the clips in a store, which later recordings are compared with.

    Attributes:
        layout: name of the skeleton layout.
        joints: names of its joints.
        measured: one value per clip, for at most `CLIPS` clips: ``length`` (frames), ``persons``, ``height`` (median
            of the centre joint), ``speed/<joint>`` (mean, units per second), ``bone/<joint>-<joint>`` (median length).
        labels: number of clips per class, over all clips; the empty name counts those without a label.
    """

    layout: str
    joints: tuple[str, ...]
    measured: dict[str, NDArray[np.float64]]
    labels: dict[str, int]

    def write(self, path: Path) -> None:
        """Write as JSON, with four significant digits per value."""
        values = {name: [float(f"{value:.4g}") for value in column] for name, column in self.measured.items()}
        whole = {"layout": self.layout, "joints": self.joints, "measured": values, "labels": self.labels}
        artifact.write_bytes(path, json.dumps(whole, sort_keys=True, separators=(",", ":")).encode())

    @classmethod
    def read(cls, path: Path) -> Summary:
        """Read what `write` wrote; a GltError if the file is no summary."""
        try:
            whole = artifact.parse_json(artifact.read_bytes(Path(path), 64 << 20))
            measured = {str(name): np.array(column, float) for name, column in whole["measured"].items()}
            labels = {str(label): int(count) for label, count in whole["labels"].items()}
            return cls(str(whole["layout"]), tuple(whole["joints"]), measured, labels)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise GltError(
                f"{path}: not a summary of recordings ({error!r:.100}); ingest the reference again"
            ) from error


def summarise(store: ClipStore, reporter: Reporter, clips: int = CLIPS) -> Summary:
    """Measure a fixed random sample of at most `clips` clips."""
    index, skeleton = store.index, store.skeleton
    rows = np.sort(np.random.default_rng(_SEED).permutation(len(index))[:clips])
    ends = np.array(skeleton.bones)
    columns = [f"speed/{joint}" for joint in skeleton.joints]
    columns += [f"bone/{skeleton.joints[a]}-{skeleton.joints[b]}" for a, b in skeleton.bones]
    measured = []
    for done, row in enumerate(rows, 1):
        frames, present = store.clip(int(row))
        points = frames[present]  # n, K, 3
        both = present[1:] & present[:-1]
        steps = np.linalg.norm(frames[1:] - frames[:-1], axis=-1)[both]  # n, K
        speed = steps.mean(axis=0) * skeleton.rate if len(steps) else np.zeros(len(skeleton.joints))
        bone = np.median(np.linalg.norm(points[:, ends[:, 0]] - points[:, ends[:, 1]], axis=-1), axis=0)
        height = float(np.median(points[:, skeleton.centre, skeleton.up]))
        measured.append([*speed, *bone, len(frames), present.any(axis=0).sum(), height])
        if done % 100 == 1 or done == len(rows):
            reporter.progress("summary", done, len(rows))
    table = np.array(measured, float).reshape(len(rows), -1)
    names = [*columns, "length", "persons", "height"]
    labels = {str(label): int(count) for label, count in index["label"].fillna("").value_counts().items()}
    return Summary(skeleton.name, skeleton.joints, dict(zip(names, table.T, strict=True)), labels)


def drift(new: Summary, reference: Summary, alpha: float = ALPHA) -> list[Finding]:
    """Findings on how new recordings differ from a reference.

    For two random halves of one set there are none, with probability 1 - `alpha`.
    """
    if new.joints != reference.joints:
        text = (
            f"layout {new.layout} has other joints than the reference's {reference.layout}: nothing else is comparable"
        )
        return [Finding("layout", "alarm", text)]
    tests: list[tuple[float, Finding | None]] = [
        _test_measure(name, new.measured[name], reference.measured[name]) for name in sorted(new.measured)
    ]
    tests.append(_test_mix(new.labels, reference.labels))
    classes = [label for label in (*reference.labels, *new.labels) if label]
    findings = [
        finding
        for (_, finding), significant in zip(tests, _holm([p for p, _ in tests], alpha), strict=True)
        if significant and finding is not None
    ]
    for one, other, what, severity in (
        (new.labels, reference.labels, "new", "warning"),
        (reference.labels, new.labels, "missing", "warning"),
    ):
        names = sorted({label for label in classes if label in one and label not in other})
        # A small sample may well hold no clip of a rare class.
        expected = sum(other.values()) / max(sum(one.values()), 1)
        names = [label for label in names if one[label] * expected >= _MIN_EXPECTED]
        if names:
            findings.append(Finding("classes", severity, f"{len(names)} classes are {what}", tuple(names)))  # type: ignore[arg-type]
    return findings


_MIN_EXPECTED = 10.0  # clips of a class; that none of them occurs then has probability e^-10


def _test_measure(name: str, new: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[float, Finding | None]:
    """p-value of a measure, and the finding if the change is large enough to matter."""
    from scipy import stats

    kind, _, what = name.partition("/")
    p = float(stats.ks_2samp(new, reference, method="asymp").pvalue)
    before, after = float(np.median(reference)), float(np.median(new))
    if kind == "persons":
        before, after = float(reference.mean()), float(new.mean())
    change = abs(after - before) / (1.0 if kind == "height" else max(abs(before), 1e-9))
    if change < _MIN_CHANGE[kind]:
        return p, None
    title = {
        "bone": f"bone {what}",
        "speed": f"speed of {what}",
        "length": "clip length",
        "height": "height of the centre",
        "persons": "persons per clip",
    }[kind]
    text = f"{title}: median {after:.3g}, reference {before:.3g} (Kolmogorov-Smirnov, p = {p:.1g})"
    severity = "warning" if kind in ("length", "persons") else "alarm"
    return p, Finding(kind, severity, text, (what,) if what else ())  # type: ignore[arg-type]


def _test_mix(new: Mapping[str, int], reference: Mapping[str, int]) -> tuple[float, Finding | None]:
    """The same for the frequencies of the classes."""
    from scipy import stats

    classes = sorted(set(new) | set(reference))
    table = np.array([[counts.get(label, 0) for label in classes] for counts in (new, reference)], float)
    if len(classes) < 2:
        return 1.0, None
    p = float(stats.chi2_contingency(table).pvalue)
    shares = table / table.sum(axis=1, keepdims=True)
    total_variation = float(np.abs(shares[0] - shares[1]).sum() / 2)
    if total_variation < _MIN_MIX_CHANGE:
        return p, None
    most = int(np.argmax(np.abs(shares[0] - shares[1])))
    label = classes[most] or "no label"
    text = (
        f"mix of classes: {label} is {shares[0, most]:.0%}, reference {shares[1, most]:.0%} (chi-square, p = {p:.1g})"
    )
    return p, Finding("labels", "warning", text, (label,))


def _holm(p: list[float], alpha: float) -> list[bool]:
    """For each p-value, True if it is significant at a family-wise level of `alpha` (Holm 1979)."""
    order, significant = np.argsort(p), [False] * len(p)
    for rank, test in enumerate(order):
        if p[test] > alpha / (len(p) - rank):
            break
        significant[test] = True
    return significant
