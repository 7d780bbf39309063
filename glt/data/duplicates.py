"""Recordings that stand in a set twice: bit for bit, or the same motion moved, turned, trimmed, resampled or noisy.

Near twins are searched in two steps. A signature that none of these changes alters much (quantiles over time of each
joint's distance from the centre joint and of its height) gives each clip's nearest neighbours; each such pair is then
laid upon one another as well as it can be (shift in time, one turn about the vertical, one translation), and is one if
the joints lie `NEAR` metres apart on average, or less.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet
from sklearn.neighbors import NearestNeighbors

from glt.data.checks.faults import scale
from glt.data.clips import ClipStore
from glt.data.findings import Finding
from glt.data.layouts import Skeleton
from glt.reporter import Reporter

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

NEAR = 0.01  # metres, mean distance of the joints: Kinect noise alone is as much
_NEIGHBOURS = 6
_RADIUS = 0.04  # metres, root mean square of signatures that are looked at closer
_SURELY = NEAR / 3  # units: a shift that fits so well is the right one
_QUANTILES = (0.1, 0.5, 0.9)
_SHIFT = 0.15  # of the shorter clip's frames, that may be missing at an end
_COLUMNS = ["first", "second", "kind", "distance"]


def twins(store: ClipStore, reporter: Reporter, *, near: bool = True) -> pd.DataFrame:
    """Pairs of clips that are the same: columns first, second (names), kind (exact or near), distance (metres).

    Of several exact copies each later one stands with the first. Near twins are sought among one copy of each.
    """
    index = store.index
    kept = ~index.duplicated("sha256")
    firsts = index[kept].set_index("sha256")["name"]
    copies = index[~kept]
    exact = [(firsts[sha], name, "exact", 0.0) for sha, name in zip(copies["sha256"], copies["name"], strict=True)]
    found = list(_near(store, np.flatnonzero(kept.to_numpy()), reporter)) if near else []
    return pd.DataFrame([*exact, *found], columns=_COLUMNS)


def leaks(pairs: pd.DataFrame, sides: pd.Series) -> pd.DataFrame:
    """The pairs of which one trains and the other tests; `sides` gives ``train`` or ``test`` by name.

    Columns as `twins`, with the training clip first, and every training copy of a test clip.
    """
    one, other = (pairs[column].map(sides) for column in ("first", "second"))
    there, back = (one == "train") & (other == "test"), (one == "test") & (other == "train")
    turned = pairs[back].rename(columns={"first": "second", "second": "first"})[_COLUMNS]
    return pd.concat([pairs[there], turned], ignore_index=True)


def findings(pairs: pd.DataFrame, index: pd.DataFrame, sides: NDArray[np.object_] | None) -> list[Finding]:
    """What the pairs mean: copies are a warning, copies across the sides of a split are an alarm."""
    found = []
    for kind in ("exact", "near"):
        those = pairs[pairs["kind"] == kind]
        if len(those):
            same = "the same bit for bit" if kind == "exact" else "nearly the same"
            text = f"{len(those)} pairs of recordings are {same}"
            found.append(Finding("twins", "warning", text, tuple(those["second"][:20])))
    if sides is None or not len(pairs):
        return found
    by_name = pd.Series(sides, index["name"])
    across = leaks(pairs, by_name)
    leaked = across["second"].nunique()
    if leaked:
        labels = index.set_index("name")["label"].reindex(across["second"].unique()).fillna("no label")
        classes = ", ".join(f"{count} of {label}" for label, count in labels.value_counts().head(5).items())
        tested = int((sides == "test").sum())
        text = (
            f"{leaked} of {tested} test recordings have a twin that trains ({classes}): scores on them "
            "tell nothing. They are counted apart as not clean; data.deduplicate leaves the training copies out"
        )
        found.append(Finding("leak", "alarm", text, tuple(across["second"].unique()[:20])))
    return found


def _near(store: ClipStore, rows: NDArray[np.int64], reporter: Reporter) -> Iterator[tuple[str, str, str, float]]:
    if len(rows) < 2:
        return
    signatures = np.empty((len(rows), len(store.skeleton.joints) * 2 * len(_QUANTILES)), np.float32)
    for number, row in enumerate(rows):
        signatures[number] = signature(*store.clip(int(row)), store.skeleton)
        if number % 500 == 0 or number + 1 == len(rows):
            reporter.progress("signatures", number + 1, len(rows))
    search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(rows)), algorithm="brute").fit(signatures)
    distances, neighbours = search.kneighbors(signatures)
    clip, place = np.nonzero(distances <= _RADIUS * np.sqrt(signatures.shape[1]))
    found = np.sort(np.stack([clip, neighbours[clip, place]], axis=1), axis=1)
    pairs = np.unique(found[found[:, 0] < found[:, 1]], axis=0)
    names = store.index["name"].to_numpy()
    groups = DisjointSet(range(len(rows)))
    for number, (a, b) in enumerate(pairs):
        if groups.connected(a, b):  # both are twins of a third: of many copies not every pair is laid upon one another
            continue
        one, other = int(rows[a]), int(rows[b])
        distance = apart(*store.clip(one), *store.clip(other), store.skeleton)
        if distance <= NEAR:
            groups.merge(a, b)
            yield str(names[one]), str(names[other]), "near", round(distance, 6)
        if number % 200 == 0:
            reporter.progress("near twins", number, len(pairs))
    reporter.progress("near twins", len(pairs), len(pairs))


def signature(frames: Floats, present: Bools, skeleton: Skeleton) -> Floats:
    """A vector [K * 6] in metres of a clip [T, P, K, 3]: what stays when it is moved, turned, trimmed or resampled.

    Of several persons the sum, so that their order plays no part.
    """
    unit = scale(frames, present, skeleton)
    whole = np.zeros(len(skeleton.joints) * 2 * len(_QUANTILES))
    for person in np.flatnonzero(present.any(axis=0)):
        seen = frames[present[:, person], person]
        local = seen - seen[:, skeleton.centre : skeleton.centre + 1]
        height = seen[:, :, skeleton.up] - seen[:, skeleton.centre, skeleton.up].mean()
        told = np.stack([np.linalg.norm(local, axis=2), height], axis=1)  # t, 2, K
        ordered = np.sort(told, axis=0)
        places = [round(q * (len(ordered) - 1)) for q in _QUANTILES]
        whole += ordered[places].ravel() / unit
    return whole.astype(np.float32)


def apart(one: Floats, seen: Bools, other: Floats, seen_too: Bools, skeleton: Skeleton) -> float:
    """Mean distance in metres of the joints of two clips [T, P, K, 3] that are laid upon one another.

    Infinite where they cannot be the same: another number of persons, or lengths that no trimming explains.
    """
    unit = scale(one, seen, skeleton)
    people, others = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen_too.any(axis=0))
    if len(people) != len(others):
        return float("inf")
    orders = [others] if len(others) == 1 else [others, others[::-1]]
    best = float("inf")
    for order in orders:
        a, b = one[:, people], other[:, order]
        both, too = seen[:, people], seen_too[:, order]
        best = min(best, _best_shift(a, both, b, too, skeleton.up))
        if len(a) != len(b) and max(len(a), len(b)) > 3:
            short, long = (a, b) if len(a) < len(b) else (b, a)
            short_seen, long_seen = (both, too) if len(a) < len(b) else (too, both)
            stretched, still_seen = _resampled(long, long_seen, len(short))
            best = min(best, _laid(short, short_seen, stretched, still_seen, skeleton.up))
    return best / unit


def _best_shift(a: Floats, seen: Bools, b: Floats, seen_too: Bools, up: int) -> float:
    """Over shifts in time that leave most of the shorter clip in both."""
    shorter = min(len(a), len(b))
    slack = int(_SHIFT * shorter)
    if abs(len(a) - len(b)) > 2 * slack + 2:
        return float("inf")
    best = float("inf")
    for shift in sorted(range(-slack - max(0, len(b) - len(a)), slack + max(0, len(a) - len(b)) + 1), key=abs):
        start, end = max(0, shift), min(len(a), len(b) + shift)
        if best < _SURELY:
            break
        if end - start >= max(1, shorter - slack):
            here, there = slice(start, end), slice(start - shift, end - shift)
            best = min(best, _laid(a[here], seen[here], b[there], seen_too[there], up))
    return best


def _laid(a: Floats, seen: Bools, b: Floats, seen_too: Bools, up: int) -> float:
    """Mean distance after the translation and the turn about the vertical that fit best."""
    both = seen & seen_too
    if both.sum() < 0.8 * max(seen.sum(), seen_too.sum()) or not both.any():
        return float("inf")
    p, q = a[both].reshape(-1, 3).astype(np.float64), b[both].reshape(-1, 3).astype(np.float64)
    p, q = p - p.mean(axis=0), q - q.mean(axis=0)
    x, y = (up + 1) % 3, (up + 2) % 3
    turn = np.arctan2((q[:, x] * p[:, y] - q[:, y] * p[:, x]).sum(), (q[:, x] * p[:, x] + q[:, y] * p[:, y]).sum())
    cos, sin = np.cos(turn), np.sin(turn)
    turned = q.copy()
    turned[:, x], turned[:, y] = cos * q[:, x] - sin * q[:, y], sin * q[:, x] + cos * q[:, y]
    return float(np.linalg.norm(p - turned, axis=1).mean())


def _resampled(frames: Floats, seen: Bools, length: int) -> tuple[Floats, Bools]:
    """The clip at another number of frames, on straight lines."""
    at = np.linspace(0, len(frames) - 1, length)
    low = np.minimum(at.astype(int), len(frames) - 2)
    share = (at - low)[:, None, None, None].astype(np.float32)
    return frames[low] * (1 - share) + frames[low + 1] * share, seen[np.rint(at).astype(int)]
