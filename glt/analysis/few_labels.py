"""Fine-tuned classifiers of a run: one result per set of labelled clips.

Each class gives at least one clip, so two labelled fractions of small classes may select the same clips. They then
count as one result, under the smallest of these fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from glt import artifact
from glt.analysis.scores import Finetuned
from glt.errors import GltError

TAG = "finetune.same_clips"  # of the parent run in MLflow: `FewLabels.note`


@dataclass(frozen=True)
class FewLabels:
    """Results of fine-tuning on labelled fractions.

    Attributes:
        results: (labelled fraction, seed, metrics), without those of fractions in `repeated`.
        repeated: fraction -> larger fractions whose labelled clips are the same, for every seed.
        clips: fraction of `repeated` -> number of its labelled clips.
    """

    results: list[Finetuned]
    repeated: dict[float, list[float]]
    clips: dict[float, int]

    def name(self, fraction: float) -> str:
        """The fraction as text, with those that select the same clips: ``5 %``, or ``5 % and 10 %``."""
        *first, last = (f"{100 * one:g} %" for one in (fraction, *self.repeated.get(fraction, ())))
        return f"{', '.join(first)} and {last}" if first else last

    @property
    def note(self) -> str:
        """The fractions that select the same clips, as text; empty if there are none."""
        return "; ".join(
            f"{self.name(fraction)} of the labels are the same {self.clips[fraction]} clips (each class gives at least "
            "one), so they are one result"
            for fraction in self.repeated
        )


def read(folders: Sequence[Path]) -> FewLabels:
    """Read the artifacts of fine-tuned classifiers.

    Raises:
        GltError: an artifact is not whole, or not a fine-tuned classifier.
    """
    results: dict[float, list[Finetuned]] = {}
    draws: dict[float, set[tuple[int, frozenset[str]]]] = {}
    for folder in map(Path, folders):
        info = artifact.open_artifact(folder, "classifier")
        if not {"fraction", "seed"} <= info.keys():
            raise GltError(
                f"{folder}: not a fine-tuned classifier (no fraction and seed); give folders that `glt finetune` made"
            )
        fraction, seed = float(info["fraction"]), int(info["seed"])
        metrics = artifact.read_json(folder / "metrics.json", dict)
        results.setdefault(fraction, []).append((fraction, seed, metrics))
        draws.setdefault(fraction, set()).add((seed, _labelled(folder)))
    kept: list[float] = []
    repeated: dict[float, list[float]] = {}
    for fraction in sorted(results):
        same = next((one for one in kept if draws[one] == draws[fraction] and _are_known(draws[one])), None)
        if same is None:
            kept.append(fraction)
        else:
            repeated.setdefault(same, []).append(fraction)
    clips = {fraction: max(len(names) for _, names in draws[fraction]) for fraction in repeated}
    return FewLabels([one for fraction in kept for one in results[fraction]], repeated, clips)


def _labelled(folder: Path) -> frozenset[str]:
    """Names of the clips whose labels were used; empty if an older version wrote the folder."""
    file = folder / "labelled.parquet"
    if not file.is_file():
        return frozenset()
    with artifact.reading(file):
        return frozenset(pd.read_parquet(file, columns=["name"])["name"])


def _are_known(draws: set[tuple[int, frozenset[str]]]) -> bool:
    return all(names for _, names in draws)
