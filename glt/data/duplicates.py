"""Recordings that stand in a set twice: bit for bit, or the same motion moved, turned, trimmed, resampled or noisy.

Near twins are searched in two steps. A signature that none of these changes alters much (quantiles over time of each
joint's distance from the centre joint and of its height) gives each clip's nearest neighbours; each such pair is then
laid upon one another as well as it can be (shift in time, one turn about the vertical, one translation), and is one if
the joints lie `NEAR` metres apart on average, or less (`glt.data.likeness`).
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet
from sklearn.neighbors import NearestNeighbors

from glt import artifact
from glt.data.clips import ClipStore
from glt.data.findings import Finding
from glt.data.layouts import Skeleton
from glt.data.likeness import NEAR, VERSION, apart, signature, width
from glt.data.splits import Splits
from glt.reporter import Reporter

_NEIGHBOURS = 6
_RADIUS = 0.04  # metres, root mean square of signatures that are looked at closer
_COLUMNS = ["first", "second", "kind", "distance"]


def twins(store: ClipStore, reporter: Reporter, memory: Path | None = None) -> pd.DataFrame:
    """Pairs of clips that are the same: columns first, second (names), kind (exact or near), distance (metres).

    Of several exact copies each later one stands with the first. Near twins are sought among one copy of each.

    Args:
        store: the clips.
        reporter: hears of progress.
        memory: file that keeps what was found, so that the next time only new clips are compared; may be deleted.
    """
    index = store.index
    kept = ~index.duplicated("sha256")
    firsts = index[kept].set_index("sha256")["name"]
    copies = index[~kept]
    exact = [(firsts[sha], name, "exact", 0.0) for sha, name in zip(copies["sha256"], copies["name"], strict=True)]
    found = _near(store, index[kept].reset_index(names="row"), reporter, memory)
    return pd.DataFrame([*exact, *found], columns=_COLUMNS)


def leaks(pairs: pd.DataFrame, splits: pd.Series) -> pd.DataFrame:
    """The pairs of one training and one test clip; `splits` gives the split of each clip by its name.

    Columns as `twins`, with the training clip first, and every training copy of a test clip.
    """
    one, other = (pairs[column].map(splits) for column in ("first", "second"))
    there, back = (one == "train") & (other == "test"), (one == "test") & (other == "train")
    turned = pairs[back].rename(columns={"first": "second", "second": "first"})[_COLUMNS]
    return pd.concat([pairs[there], turned], ignore_index=True)


def findings(pairs: pd.DataFrame, index: pd.DataFrame, splits: Splits | None) -> list[Finding]:
    """Findings on the pairs: a warning about duplicates, an alarm about duplicates across the splits."""
    found = []
    for kind in ("exact", "near"):
        those = pairs[pairs["kind"] == kind]
        if len(those):
            same = "the same bit for bit" if kind == "exact" else "nearly the same"
            text = f"{len(those)} pairs of recordings are {same}"
            found.append(Finding("twins", "warning", text, tuple(those["second"][:20])))
    if splits is None or not len(pairs):
        return found
    by_name = pd.Series(splits, index["name"])
    across = leaks(pairs, by_name)
    leaked = across["second"].nunique()
    if leaked:
        labels = index.set_index("name")["label"].reindex(across["second"].unique()).fillna("no label")
        classes = ", ".join(f"{count} of {label}" for label, count in labels.value_counts().head(5).items())
        tested = int((splits == "test").sum())
        text = (
            f"{leaked} of {tested} test recordings have a twin that trains ({classes}): scores on them "
            "tell nothing. They are counted apart as not clean; data.deduplicate leaves the training copies out"
        )
        found.append(Finding("leak", "alarm", text, tuple(across["second"].unique()[:20])))
    return found


@dataclass(frozen=True)
class _Seen:
    """Clips that have all been compared with one another.

    Attributes:
        sha256: of their contents, [n].
        signatures: [n, F].
        twins: places of two clips each, [m, 2].
        distance: of those, metres, [m].
    """

    sha256: NDArray[np.bytes_]
    signatures: NDArray[np.float32]
    twins: NDArray[np.int64]
    distance: NDArray[np.float64]

    @staticmethod
    def none(numbers: int) -> _Seen:
        """No clips."""
        pairs = np.zeros((0, 2), np.int64)
        return _Seen(np.zeros(0, "S64"), np.zeros((0, numbers), np.float32), pairs, np.zeros(0))

    @staticmethod
    def read(file: Path, skeleton: Skeleton) -> _Seen:
        """What `write` kept of clips of this layout; no clips if there is nothing, or it is not whole."""
        try:
            with np.load(file, allow_pickle=False) as kept:
                if str(kept["of"]) == _of(skeleton):
                    return _Seen(kept["sha256"], kept["signatures"], kept["twins"], kept["distance"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass
        return _Seen.none(width(skeleton))

    def write(self, file: Path, skeleton: Skeleton) -> None:
        """Keep it, whole or not at all."""
        stream = io.BytesIO()
        np.savez(
            stream,
            of=np.array(_of(skeleton)),
            sha256=self.sha256,
            signatures=self.signatures,
            twins=self.twins,
            distance=self.distance,
        )
        artifact.write_bytes(file, stream.getvalue())

    def among(self, sha256: NDArray[np.bytes_]) -> _Seen:
        """Of these clips only."""
        kept = np.isin(self.sha256, sha256)
        place = np.cumsum(kept) - 1
        both = kept[self.twins].all(axis=1)
        return _Seen(self.sha256[kept], self.signatures[kept], place[self.twins[both]], self.distance[both])


def _of(skeleton: Skeleton) -> str:
    return json.dumps([skeleton.to_dict(), VERSION, NEAR, _RADIUS, _NEIGHBOURS], sort_keys=True)


def _near(
    store: ClipStore, clips: pd.DataFrame, reporter: Reporter, memory: Path | None
) -> list[tuple[str, str, str, float]]:
    """Near twins among `clips` (row in the store, name, sha256), which are all different."""
    skeleton, sha256 = store.skeleton, clips["sha256"].to_numpy().astype("S64")
    before = (_Seen.none(width(skeleton)) if memory is None else _Seen.read(memory, skeleton)).among(sha256)
    # Those that were seen before come first, in their old order.
    place = pd.Series(np.arange(len(before.sha256)), before.sha256).reindex(sha256)
    new = clips[place.isna().to_numpy()]
    rows = np.empty(len(clips), np.int64)
    rows[place.dropna().to_numpy(np.int64)] = clips["row"][place.notna().to_numpy()]
    rows[len(before.sha256) :] = new["row"]
    signatures = np.concatenate([before.signatures, np.empty((len(new), width(skeleton)), np.float32)])
    for number in range(len(before.sha256), len(rows)):
        signatures[number] = signature(*store.clip(int(rows[number])), skeleton)
        if number % 500 == 0 or number + 1 == len(rows):
            reporter.progress("signatures", number + 1, len(rows))
    twins, distance = list(map(tuple, before.twins)), list(before.distance)
    groups = DisjointSet(range(len(rows)))
    for a, b in twins:
        groups.merge(a, b)
    pairs = _candidates(signatures, len(before.sha256))
    for number, (a, b) in enumerate(pairs):
        if groups.connected(a, b):  # both are twins of a third: of many copies not every pair is laid upon one another
            continue
        apart_by = apart(*store.clip(int(rows[a])), *store.clip(int(rows[b])), skeleton)
        if apart_by <= NEAR:
            groups.merge(a, b)
            twins.append((a, b))
            distance.append(apart_by)
        if number % 200 == 0:
            reporter.progress("near twins", number, len(pairs))
    reporter.progress("near twins", len(pairs), len(pairs))
    names, contents = store.index["name"].to_numpy(), store.index["sha256"].to_numpy().astype("S64")
    if memory is not None and len(new):
        found = np.array(twins, np.int64).reshape(-1, 2)
        _Seen(contents[rows], signatures, found, np.array(distance, float)).write(memory, skeleton)
    said = [(*sorted((str(names[rows[a]]), str(names[rows[b]]))), d) for (a, b), d in zip(twins, distance, strict=True)]
    return [(first, second, "near", round(d, 6)) for first, second, d in sorted(said)]


def _candidates(signatures: NDArray[np.float32], old: int) -> NDArray[np.int64]:
    """Pairs [n, 2] of clips with signatures so near that they are looked at closer, of which one at least is new."""
    if len(signatures) < 2 or old == len(signatures):
        return np.zeros((0, 2), np.int64)
    search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(signatures)), algorithm="brute").fit(signatures)
    distances, neighbours = search.kneighbors(signatures[old:])
    clip, place = np.nonzero(distances <= _RADIUS * np.sqrt(signatures.shape[1]))
    found = np.sort(np.stack([clip + old, neighbours[clip, place]], axis=1), axis=1)
    return np.unique(found[found[:, 0] < found[:, 1]], axis=0)
