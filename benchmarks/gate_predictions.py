"""Predictions of models of different quality on public sets, by grouped folds: what `benchmarks.gate_power` draws from.

    python -m benchmarks.gate_predictions DATA FOLDER [--sets nw-ucla sbu ...]

DATA is a folder with nw-ucla/, sbu/ and extra/ (archives of MSRAction3D, UTKinect and MSRC-12 in the format `table`).
Every clip of a set is predicted by models fitted without its subject (`nw-ucla-cameras`: without its camera, as that
set's protocol validates), `REPEATS` times with other folds. FOLDER/predictions-<set>.csv has one row per clip:
set, clip, subject, label, and a column `predictions` with one letter per repeat and model, in the order of `MODELS`
within a repeat: the class, of the sorted classes of the set.

FOLDER/refits-<set>.csv is the gate as it happens: `DRAWS` times `SUBJECTS` subjects are drawn to train, and the others
test; the models `REFITTED` are validated by folds of these subjects alone, and tested when fitted on all of them. One
row per draw and subject: the models that are right as the bits of a number of three hexadecimal digits for each of the
clips; and one row per draw with subject -1, whose `right` lists the test accuracies. No file holds coordinates.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from experiments import by_hand
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.motion.disentangle import Motions, write_motions
from glt.recipe import Pool, Recipe, load, with_changes
from glt.reporter import Silent
from glt.training.batches import evaluation_batches
from glt.training.checkpoint import Checkpoint
from glt.training.classifier import ActionClassifier
from glt.training.encoder import build_encoder
from glt.training.pretrain import train_encoder
from glt.training.probe import FOLDS

Floats = NDArray[np.float32]
CPU = torch.device("cpu")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
REPEATS = 3
SEEDS = (0, 1)
_HALF = {"protocol": "column", "column": "subject"}
_TABLE = {"format": "table", **_HALF}
_EVEN = list(range(2, 31, 2))
SETS: dict[str, tuple[str, tuple[str, ...], dict[str, object]]] = {  # recipe, archives, changes of its section data
    "nw-ucla": ("nw-ucla", ("nw-ucla/all_sqe.zip",), {}),
    "sbu": ("sbu", ("sbu/sbu_kinect_interaction_clean.zip",), {}),
    "msr-action3d": ("nw-ucla", ("extra/msr-action3d.zip",), {**_TABLE, "test_values": _EVEN}),
    "utkinect": ("nw-ucla", ("extra/utkinect.zip",), {**_TABLE, "test_values": _EVEN}),
    "msrc12": ("nw-ucla", ("extra/msrc12-odd.zip", "extra/msrc12-even.zip"), {**_TABLE, "test_values": _EVEN}),
}
CAMERAS = {"nw-ucla": "nw-ucla-cameras"}  # sets that are recorded by folds of cameras, too, and the name of that
LARGEST, DRAWN = 1500, 840  # clips: of a larger set this many are drawn, equally many of every subject
EPOCHS = {"nw-ucla": 2, "msrc12": 1}  # of a pretraining; 8 of the smaller sets
WIDTH = 256  # of the features that classifiers are fitted on
DRAWS, SUBJECTS = 40, 5  # of the refits
# Name: kind of features, seed or number of frames, strength of the classifier.
MODELS: dict[str, tuple[str, int, float]] = {
    "nearest neighbour": ("positions", 16, 0.0),
    "positions": ("positions", 16, 1e-3),
    "statistics": ("statistics", 0, 1e-2),
    "statistics, weakly regularised": ("statistics", 0, 1.0),
    **{f"untrained {seed}, blocks": (f"untrained {seed} blocks", 0, 1e-3) for seed in SEEDS},
    **{f"untrained {seed}, head": (f"untrained {seed} head", 0, 1e-1) for seed in SEEDS},
    **{f"narrow {seed}, blocks": (f"narrow {seed} blocks", 0, 1e-3) for seed in SEEDS},
    **{f"pretrained {seed}, blocks": (f"pretrained {seed} blocks", 0, 1e-3) for seed in SEEDS},
    **{f"pretrained {seed}, head": (f"pretrained {seed} head", 0, 1e-1) for seed in SEEDS},
}
REFITTED = tuple(
    name for name in MODELS if name in ("positions", "statistics") or name.startswith(("untrained", "pretrained"))
)
DIGITS = 3  # hexadecimal, one bit per refitted model


def main() -> None:
    """Record the sets one after the other, each into files of its own; one that is there is not computed again."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in given.sets:
        if not (given.folder / f"refits-{name}.csv").exists():
            started = time.perf_counter()
            for file, table in record(name, given.data):
                table.to_csv(given.folder / f"{file}.csv", index=False)
            print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


def record(name: str, data: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """The predictions of one set, and its refits, with the names of their files."""
    base, archives, changes = SETS[name]
    recipe = with_changes(load(base), {"data": changes}, "of the benchmark")
    with tempfile.TemporaryDirectory() as folder:
        recordings, clips, motions = (Path(folder) / part for part in ("recordings", "clips", "motions"))
        recordings.mkdir()
        for archive in archives:
            (recordings / Path(archive).name).symlink_to((data / archive).resolve())
        source = recordings if len(archives) > 1 else recordings / Path(archives[0]).name
        ingest(source, recipe, clips, {}, Silent(), Path(folder) / "segments")
        write_motions(ClipStore(clips), recipe, motions, {}, Silent())
        opened = Motions(motions)
        chosen = _subset(opened.index)
        index = opened.index.iloc[chosen]
        classes = np.unique(index["label"].astype(str))
        y = np.searchsorted(classes, index["label"].astype(str).to_numpy())
        recipe = with_changes(recipe, {"pretrain": {"epochs": EPOCHS.get(name, 8)}}, "of the benchmark")
        features = {kind: _reduced(x) for kind, x in _features(opened, chosen, recipe)}
    subjects = index["subject"].to_numpy(np.int64)
    groups = {name: subjects}
    if name in CAMERAS:
        groups[CAMERAS[name]] = index["camera"].to_numpy(np.int64)
    rows = {"clip": index["name"].to_numpy(), "subject": subjects, "label": [LETTERS[label] for label in y]}
    for key, of in groups.items():
        yield f"predictions-{key}", pd.DataFrame({"set": key, **rows, "predictions": _repeated(features, y, of)})
    yield f"refits-{name}", refits(name, features, y, subjects)


def _repeated(features: dict[str, Floats], y: NDArray[np.int64], groups: NDArray[np.int64]) -> list[str]:
    """The letters of each clip."""
    columns = []
    for repeat in range(REPEATS):
        folds = GroupKFold(min(FOLDS, len(set(groups))), shuffle=True, random_state=repeat)
        parts = list(folds.split(y, groups=groups))
        for kind, _, strength in MODELS.values():
            predicted = np.empty(len(y), np.int64)
            for fitted, held in parts:
                predicted[held] = _fit(features[kind][fitted], y[fitted], strength).predict(features[kind][held])
            columns.append(predicted)
    letters = np.array(list(LETTERS))[np.stack(columns, axis=1)]
    return ["".join(row) for row in letters]


def refits(name: str, features: dict[str, Floats], y: NDArray[np.int64], subjects: NDArray[np.int64]) -> pd.DataFrame:
    """The rows of `DRAWS` draws of training subjects."""
    random, rows = np.random.default_rng(0), []
    people = np.unique(subjects)
    for draw in range(DRAWS):
        train = np.isin(subjects, random.choice(people, SUBJECTS, replace=False))
        right = np.zeros((len(REFITTED), len(y)), bool)
        tested = []
        for bit, model in enumerate(REFITTED):
            kind, _, strength = MODELS[model]
            x = features[kind]
            for subject in np.unique(subjects[train]):
                fitted, held = train & (subjects != subject), train & (subjects == subject)
                right[bit, held] = _fit(x[fitted], y[fitted], strength).predict(x[held]) == y[held]
            tested.append(float((_fit(x[train], y[train], strength).predict(x[~train]) == y[~train]).mean()))
        codes = (right * 2 ** np.arange(len(REFITTED))[:, None]).sum(axis=0)
        for subject in np.unique(subjects[train]):
            rows.append((name, draw, subject, "".join(f"{code:0{DIGITS}x}" for code in codes[subjects == subject])))
        rows.append((name, draw, -1, " ".join(f"{share:.4f}" for share in tested)))
    return pd.DataFrame(rows, columns=["set", "draw", "subject", "right"])


def _subset(index: pd.DataFrame) -> NDArray[np.int64]:
    """Positions of the labelled clips, or of DRAWN of them if there are more than LARGEST."""
    labelled = np.flatnonzero(index["label"].notna())
    if len(labelled) <= LARGEST:
        return labelled
    subjects = index["subject"].to_numpy()[labelled]
    each, random = DRAWN // len(set(subjects)), np.random.default_rng(0)
    parts = [labelled[subjects == subject] for subject in sorted(set(subjects))]
    return np.sort(np.concatenate([random.choice(part, min(each, len(part)), replace=False) for part in parts]))


def _features(motions: Motions, chosen: NDArray[np.int64], recipe: Recipe) -> Iterator[tuple[str, Floats]]:
    yield "positions", by_hand.raw_positions(16)(motions, chosen)
    yield "statistics", by_hand.pooled_statistics(motions, chosen)
    narrow = with_changes(recipe, {"model": {"heads": 2, "depth": 2}}, "of the benchmark")
    for seed in SEEDS:
        for kind, settings in (("untrained", recipe), ("narrow", narrow)):
            torch.manual_seed(seed)
            encoder = build_encoder(settings.model, motions)
            yield from _pooled(f"{kind} {seed}", ActionClassifier(encoder, "ab", "blocks", _POOL), motions, chosen)
        chosen_seed = with_changes(recipe, {"seed": seed}, "of the benchmark")
        encoder, _ = train_encoder(motions, chosen_seed, CPU, Silent(), Checkpoint(None))
        yield from _pooled(f"pretrained {seed}", ActionClassifier(encoder, "ab", "blocks", _POOL), motions, chosen)


_POOL: tuple[Pool, ...] = ("mean", "max", "std")


@torch.no_grad()
def _pooled(
    name: str, model: ActionClassifier, motions: Motions, chosen: NDArray[np.int64]
) -> Iterator[tuple[str, Floats]]:
    """The features of the default probe (all blocks, all statistics) and of the paper's (the head's mean)."""
    model.eval()
    batches = evaluation_batches(motions, chosen, model.encoder.config, CPU)
    pooled = np.concatenate([model.pooled(batch).numpy() for batch in batches])
    width = model.encoder.width
    yield f"{name} blocks", pooled
    yield f"{name} head", pooled[:, -len(_POOL) * width :][:, :width]


def _reduced(x: Floats) -> Floats:
    """The features standardised, their first `WIDTH` principal components: no labels are used, and fits are fast."""
    reduced: Floats = StandardScaler().fit_transform(x)
    if x.shape[1] > WIDTH:
        reduced = PCA(min(WIDTH, len(x)), svd_solver="randomized", random_state=0).fit_transform(reduced)
    return reduced.astype(np.float32)


def _fit(x: Floats, y: NDArray[np.int64], strength: float) -> KNeighborsClassifier | LogisticRegression:
    """Logistic regression; the nearest neighbour if `strength` is 0."""
    if not strength:
        return KNeighborsClassifier(1).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that stops early is a little more regularised
        return LogisticRegression(C=strength, max_iter=50, tol=1e-2).fit(x, y)


if __name__ == "__main__":
    main()
