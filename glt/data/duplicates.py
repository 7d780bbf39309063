"""Duplicate recordings: bit for bit, or the same motion moved, turned, cut, resampled or noisy.

Near duplicates are searched in two steps. Candidates are the nearest neighbours of each clip by a signature of the
whole clip (`glt.data.similarity`), and clips that share a window of time (`glt.data.windows`). Each candidate pair is
then aligned; `Match.is_near` decides.
"""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glt import artifact
from glt.data.clips import ClipStore
from glt.data.findings import Finding
from glt.data.layouts import Skeleton
from glt.data.similarity import VERSION, Match, compare_overlap, compare_whole, signature, signature_size
from glt.data.splits import Splits
from glt.data.windows import Anchors, AnchorSearch, choose_anchors, windows
from glt.reporter import Reporter

_NEIGHBOURS = 6
_RADIUS = 0.04  # metres, root mean square difference of two signatures up to which their clips are aligned
_COLUMNS = ["first", "second", "kind", "distance"]


def near_duplicates(store: ClipStore, reporter: Reporter, cache: Path | None = None) -> pd.DataFrame:
    """Pairs of clips that are the same recording, one row per pair.

    Of several exact copies, each later one is paired with the first; near duplicates are searched among one copy of
    each.

    Args:
        store: the clips.
        reporter: receives the progress.
        cache: file that remembers earlier comparisons, so that only new clips are compared; it may be deleted.

    Returns:
        Columns: first and second (clip names), kind (``exact`` or ``near``), distance (metres).
    """
    index = store.index
    is_first = ~index.duplicated("sha256")
    first_names = index[is_first].set_index("sha256")["name"]
    copies = index[~is_first]
    exact = [(first_names[sha], name, "exact", 0.0) for sha, name in zip(copies["sha256"], copies["name"], strict=True)]
    near = _near_pairs(store, index[is_first].reset_index(names="row"), reporter, cache)
    return pd.DataFrame([*exact, *near], columns=_COLUMNS)


def cache_file(folder: Path, dataset: str) -> Path:
    """The cache of `near_duplicates` in a folder; one with the former name ``twins-<dataset>.npz`` is renamed."""
    file, former = folder / f"near-duplicates-{dataset}.npz", folder / f"twins-{dataset}.npz"
    if former.exists() and not file.exists():
        former.replace(file)
    return file


def originals(pairs: pd.DataFrame, index: pd.DataFrame) -> pd.Series:
    """SHA-256 of the first clip that each clip of an index is a duplicate of, directly or through others, or its own.

    Clips with equal values hold the same recording, or parts of it.
    """
    from scipy.cluster.hierarchy import DisjointSet

    sha256 = index.set_index("name")["sha256"]
    groups = DisjointSet(sha256.unique())
    for first, second in zip(pairs["first"], pairs["second"], strict=True):
        groups.merge(sha256[first], sha256[second])
    first_of: dict[str, str] = {}
    for one in sha256.unique():
        first_of.setdefault(groups[one], one)
    return pd.Series([first_of[groups[one]] for one in index["sha256"]], index.index, dtype=object)


def leaks(pairs: pd.DataFrame, splits: pd.Series) -> pd.DataFrame:
    """The pairs of one training and one test clip; `splits` gives the split of each clip by its name.

    Columns as `near_duplicates`, with the training clip first.
    """
    first, second = (pairs[column].map(splits) for column in ("first", "second"))
    in_order, reversed_ = (first == "train") & (second == "test"), (first == "test") & (second == "train")
    swapped = pairs[reversed_].rename(columns={"first": "second", "second": "first"})[_COLUMNS]
    return pd.concat([pairs[in_order], swapped], ignore_index=True)


def findings(pairs: pd.DataFrame, index: pd.DataFrame, splits: Splits | None) -> list[Finding]:
    """Findings on the pairs: a warning about duplicates, an alarm about duplicates across the splits."""
    results = []
    for kind in ("exact", "near"):
        of_kind = pairs[pairs["kind"] == kind]
        if len(of_kind):
            same = "the same bit for bit" if kind == "exact" else "nearly the same"
            text = f"{len(of_kind)} pairs of recordings are {same}"
            results.append(Finding("duplicates", "warning", text, tuple(of_kind["second"][:20])))
    if splits is None or not len(pairs):
        return results
    leaked = leaks(pairs, pd.Series(splits, index["name"]))["second"].unique()
    if len(leaked):
        labels = index.set_index("name")["label"].reindex(leaked).fillna("no label")
        classes = ", ".join(f"{count} of {label}" for label, count in labels.value_counts().head(5).items())
        text = (
            f"{len(leaked)} of {int((splits == 'test').sum())} test recordings have a duplicate in the training split "
            f"({classes}): scores on them mean nothing. They are reported separately, as not clean; "
            "data.deduplicate leaves the training copies out"
        )
        results.append(Finding("leak", "alarm", text, tuple(leaked[:20])))
    return results


@dataclass(frozen=True)
class _Compared:
    """n clips that have all been compared with each other, and the m pairs of near duplicates among them.

    Attributes:
        sha256: of their content, [n].
        signatures: float32 [n, F].
        anchors: of the n clips.
        pairs: indices of two clips each, int [m, 2].
        distance: of each pair in metres, [m].
    """

    sha256: NDArray[np.bytes_]
    signatures: NDArray[np.float32]
    anchors: Anchors
    pairs: NDArray[np.int64]
    distance: NDArray[np.float64]

    @staticmethod
    def empty(size: int) -> _Compared:
        """No clips; signatures have `size` values."""
        return _Compared(
            np.zeros(0, "S64"),
            np.zeros((0, size), np.float32),
            Anchors.empty(0),
            np.zeros((0, 2), np.int64),
            np.zeros(0),
        )

    @staticmethod
    def read(file: Path, skeleton: Skeleton) -> _Compared:
        """Read what `write` wrote for this layout; empty if the file is missing, damaged, or of another version."""
        try:
            with np.load(file, allow_pickle=False) as arrays:
                if str(arrays["of"]) == _version(skeleton):
                    anchors = Anchors(*(arrays[f"anchor_{field.name}"] for field in fields(Anchors)))
                    return _Compared(
                        arrays["sha256"], arrays["signatures"], anchors, arrays["pairs"], arrays["distance"]
                    )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass
        return _Compared.empty(signature_size(skeleton))

    def write(self, file: Path, skeleton: Skeleton) -> None:
        """Write to `file`, atomically, if it can be written to."""
        stream = io.BytesIO()
        np.savez(
            stream,
            of=np.array(_version(skeleton)),
            sha256=self.sha256,
            signatures=self.signatures,
            pairs=self.pairs,
            distance=self.distance,
            **{f"anchor_{field.name}": getattr(self.anchors, field.name) for field in fields(Anchors)},
        )
        with suppress(OSError):  # it is only a cache
            artifact.write_bytes(file, stream.getvalue())

    def restricted_to(self, sha256: NDArray[np.bytes_]) -> _Compared:
        """Without the clips of any other content."""
        in_use = np.isin(self.sha256, sha256)
        new_index = np.cumsum(in_use) - 1
        both = in_use[self.pairs].all(axis=1)
        pairs = new_index[self.pairs[both]]
        anchors = self.anchors.subset(in_use)
        return _Compared(self.sha256[in_use], self.signatures[in_use], anchors, pairs, self.distance[both])


def _version(skeleton: Skeleton) -> str:
    """The version of the comparison code and the layout; cached comparisons of another are not reused."""
    return json.dumps([skeleton.to_dict(), VERSION, _RADIUS, _NEIGHBOURS], sort_keys=True)


def _near_pairs(
    store: ClipStore, clips: pd.DataFrame, reporter: Reporter, cache: Path | None
) -> list[tuple[str, str, str, float]]:
    """Near duplicates among `clips` of different content; columns row (in the store), name, sha256."""
    size, sha256 = signature_size(store.skeleton), clips["sha256"].to_numpy().astype("S64")
    before = _Compared.empty(size) if cache is None else _Compared.read(cache, store.skeleton)
    before = before.restricted_to(sha256)
    # Clips that were compared before come first, in their old order.
    old_index = pd.Series(np.arange(len(before.sha256)), before.sha256).reindex(sha256)
    rows = np.empty(len(clips), np.int64)  # in the store
    rows[old_index.dropna().to_numpy(np.int64)] = clips["row"][old_index.notna().to_numpy()]
    rows[len(before.sha256) :] = clips["row"][old_index.isna().to_numpy()]
    after = _compare(store, rows, before, reporter)
    if cache is not None and len(rows) > len(before.sha256):
        after.write(cache, store.skeleton)
    names = store.index["name"].to_numpy()
    pairs = [
        (*sorted((str(names[rows[a]]), str(names[rows[b]]))), round(distance, 6))
        for (a, b), distance in zip(after.pairs, after.distance, strict=True)
    ]
    return [(first, second, "near", distance) for first, second, distance in sorted(pairs)]


def _compare(store: ClipStore, rows: NDArray[np.int64], before: _Compared, reporter: Reporter) -> _Compared:
    """Compare the clips in `rows` of the store with each other; the first of them are those of `before`."""
    from scipy.cluster.hierarchy import DisjointSet

    skeleton, known = store.skeleton, len(before.sha256)
    signatures = np.empty((len(rows), signature_size(skeleton)), np.float32)
    signatures[:known] = before.signatures
    anchors = Anchors.empty(len(rows))
    anchors.assign(slice(known), before.anchors)
    for index in range(known, len(rows)):
        frames, present = store.clip(int(rows[index]))
        signatures[index] = signature(frames, present, skeleton)
        of = windows(frames, present, skeleton)
        anchors.set(index, of, choose_anchors(of, len(frames)))
        if index % 500 == 0 or index + 1 == len(rows):
            reporter.progress("signatures", index + 1, len(rows))
    pairs, distances = list(map(tuple, before.pairs)), list(before.distance)
    groups = DisjointSet(range(len(rows)))
    for a, b in pairs:
        groups.merge(a, b)
    candidates: list[tuple[int, int, int | None]] = [(int(a), int(b), None) for a, b in _candidates(signatures, known)]
    candidates += _overlaps(store, rows, anchors, known, reporter)
    for done, (a, b, shift) in enumerate(candidates):
        if groups.connected(a, b):  # through a third clip: of many copies not every pair is aligned
            continue
        match = _match(store, int(rows[a]), int(rows[b]), shift)
        if match.is_near:
            groups.merge(a, b)
            pairs.append((min(a, b), max(a, b)))
            distances.append(match.distance)
        if done % 200 == 0:
            reporter.progress("near duplicates", done, len(candidates))
    reporter.progress("near duplicates", len(candidates), len(candidates))
    sha256 = store.index["sha256"].to_numpy().astype("S64")[rows]
    return _Compared(sha256, signatures, anchors, np.array(pairs, np.int64).reshape(-1, 2), np.array(distances, float))


def _match(store: ClipStore, row: int, other_row: int, shift: int | None) -> Match:
    """Compare two clips from beginning to end, or at a shift in time, which noise may have made a frame wrong."""
    one, other = store.clip(row), store.clip(other_row)
    if shift is None:
        return compare_whole(*one, *other, store.skeleton)
    matches = [compare_overlap(*one, *other, at, store.skeleton) for at in (shift, shift - 1, shift + 1)]
    return min(matches, key=lambda match: match.distance)


def _overlaps(
    store: ClipStore, rows: NDArray[np.int64], anchors: Anchors, known: int, reporter: Reporter
) -> list[tuple[int, int, int]]:
    """Candidates (clip, other clip, shift), the most similar first; at least one is not among the first `known`."""
    if known == len(rows):
        return []
    with_all = AnchorSearch(anchors)
    with_new = AnchorSearch(anchors.without(known))
    found: dict[tuple[int, int], tuple[float, int]] = {}
    for index, row in enumerate(rows):
        of = windows(*store.clip(int(row)), store.skeleton)
        for other, shift, distance in (with_new if index < known else with_all).find(index, of):
            pair, at = ((other, index), shift) if other < index else ((index, other), -shift)
            found[pair] = min(found.get(pair, (np.inf, 0)), (distance, at))
        if index % 500 == 0 or index + 1 == len(rows):
            reporter.progress("windows", index + 1, len(rows))
    ordered = sorted((distance, pair, shift) for pair, (distance, shift) in found.items())
    return [(*pair, shift) for _, pair, shift in ordered]


def _candidates(signatures: NDArray[np.float32], known: int) -> NDArray[np.int64]:
    """Pairs [n, 2] of clips with similar signatures; at least one of the two is not among the first `known`."""
    if len(signatures) < 2 or known == len(signatures):
        return np.zeros((0, 2), np.int64)
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(signatures)), algorithm="brute").fit(signatures)
    distances, neighbours = search.kneighbors(signatures[known:])
    clip, rank = np.nonzero(distances <= _RADIUS * np.sqrt(signatures.shape[1]))
    pairs = np.sort(np.stack([clip + known, neighbours[clip, rank]], axis=1), axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
