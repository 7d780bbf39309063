"""Linear evaluation: a linear classifier on features of the frozen encoder (paper, Sec. 4.1).

The regularisation and the promotion gate depend on validation predictions only: each labelled training clip is
predicted by a classifier fitted without its group (subject, camera, ...: what distinguishes the protocol's test split).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from glt.data.splits import originals
from glt.errors import GltError
from glt.model import GLTransformer
from glt.motion.disentangle import Motions
from glt.motion.packed import Packed
from glt.recipe import ProbeConfig, Recipe
from glt.reporter import Reporter
from glt.training.batches import ClipIds, evaluation_batches, training_batch
from glt.training.classifier import ActionClassifier, accuracy, predictions, training_classes
from glt.training.encoder import build_encoder

Floats = NDArray[np.float32]
Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
FOLDS = 5


@dataclass(frozen=True)
class Probe:
    """The result of linear evaluation.

    Attributes:
        model: the frozen encoder with the fitted classifier.
        predictions: one row per labelled test clip, see `glt.training.classifier.predict`.
        validation: one row per labelled training clip with a validation prediction: name, sha256, label, group,
            subject, predicted, untrained (by the same probe on the untrained encoder), right and untrained_right (the
            shares of the repetitions of the folds, `GateConfig.repeats`, in which these are right).
        metrics: under their fixed keys.
    """

    model: ActionClassifier
    predictions: pd.DataFrame
    validation: pd.DataFrame
    metrics: dict[str, float]


@dataclass(frozen=True)
class Linear:
    """A fitted linear classifier: logits = (x - mean) / scale @ weight.T + bias."""

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats

    def logits(self, x: Floats) -> Floats:
        """[n, F] -> [n, classes]."""
        return ((x - self.mean) / self.scale @ self.weight.T + self.bias).astype(np.float32)

    def state(self) -> dict[str, torch.Tensor]:
        """The parameters as entries of the state dict of an `ActionClassifier`."""
        named = {"mean": self.mean, "scale": self.scale, "linear.weight": self.weight, "linear.bias": self.bias}
        return {name: torch.from_numpy(value) for name, value in named.items()}


def fit_probe(
    encoder: GLTransformer, motions: Motions, recipe: Recipe, device: torch.device, reporter: Reporter
) -> Probe:
    """Fit and evaluate the probe; the weights of the encoder do not change.

    Raises:
        GltError: a split without labelled clips, or labels of one class only.
    """
    train, test = motions.clip_ids("train", labelled=True), motions.clip_ids("test", labelled=True)
    labels, classes = motions.labels(train), training_classes(motions)
    names, y = np.array(classes), np.searchsorted(classes, labels)
    folds = [validation_folds(motions, train, repeat) for repeat in range(recipe.gate.repeats)]
    folds = [parts for parts in folds if parts]
    torch.manual_seed(recipe.seed)
    encoders = {"pretrained": encoder, "untrained": build_encoder(recipe.model, motions)}
    models, seen_in, tested, linear, held_out, right = {}, {}, {}, {}, {}, {}
    config = recipe.probe
    for key, candidate in encoders.items():
        model = models[key] = ActionClassifier(candidate, classes, config.features, config.pool, config.parts).to(
            device
        )
        advance = _progress_callback(reporter, f"features, {key}", recipe, len(train), len(test))
        seen_in[key] = _training_features(model, motions, train, recipe, device, advance)
        tested[key] = _pooled(model, evaluation_batches(motions, test, recipe.model, device), advance)
        linear[key], held_out[key], best = _fit_with_validation(
            seen_in[key], y, folds[0], config, recipe.seed, len(classes)
        )
        again = [
            _validate(seen_in[key], y, parts, config, recipe.seed, len(classes), (best,))[best] for parts in folds[1:]
        ]
        right[key] = _share_right(np.stack([held_out[key], *again]), y)

    table = predictions(motions, test, _softmax(linear["pretrained"].logits(tested["pretrained"])), classes)
    seen = held_out["pretrained"] >= 0
    columns = ["name", "sha256", "label", "group", "subject"]
    validation = motions.index.iloc[train[seen]][columns].reset_index(drop=True)
    validation["predicted"] = names[held_out["pretrained"][seen]]
    validation["untrained"] = names[held_out["untrained"][seen]]
    validation["right"], validation["untrained_right"] = right["pretrained"][seen], right["untrained"][seen]
    answers = {
        "probe/top1": table["predicted"].to_numpy(),
        "probe/untrained_top1": names[linear["untrained"].logits(tested["untrained"]).argmax(1)],
        "knn/top1": labels[_nearest(seen_in["pretrained"][0], tested["pretrained"])],
    }
    metrics: dict[str, float] = {}
    for key, column in (("probe/val_top1", "predicted"), ("probe/untrained_val_top1", "untrained")):
        if len(validation):
            metrics[key] = float((validation[column] == validation["label"]).mean())
    for key, answer in answers.items():
        metrics |= accuracy(table.assign(predicted=answer), key)
    reporter.metrics(metrics)
    model = models["pretrained"].cpu()
    model.load_state_dict(linear["pretrained"].state(), strict=False)
    return Probe(model, table, validation, metrics)


def validation_folds(motions: Motions, train: ClipIds, repeat: int = 0) -> Folds:
    """Validation folds: positions in `train` to fit on and to predict, at most FOLDS pairs.

    Each `repeat` assigns the groups to the folds in another way. With at most FOLDS groups there is one way only, and
    repeats above 0 have no folds.

    Each fold holds out whole groups; of one group only, whole subjects if all clips name theirs, else single clips. It
    does not predict clips of which a duplicate is fitted on.

    Raises:
        GltError: there is only one labelled training clip.
    """
    from sklearn.model_selection import GroupKFold, KFold

    index = motions.index.iloc[train]
    groups, content = index["group"].to_numpy().astype(str), originals(index).to_numpy().astype(str)
    if len(np.unique(groups)) == 1 and index["subject"].notna().all():
        groups = index["subject"].to_numpy().astype(str)
    count = len(np.unique(groups))
    if len(train) < 2:
        raise GltError(f"{motions.path}: one labelled training clip; validation needs at least two")
    if repeat and count <= FOLDS:
        return []
    if count > 1:
        drawn = {"shuffle": True, "random_state": repeat} if repeat else {}
        parts = GroupKFold(min(FOLDS, count), **drawn).split(train, groups=groups)
    else:
        parts = KFold(min(FOLDS, len(train)), shuffle=True, random_state=0).split(train)
    return [(fitted, held[~np.isin(content[held], content[fitted])]) for fitted, held in parts]


def initialise_linear_layer(
    model: ActionClassifier,
    motions: Motions,
    labelled: ClipIds,
    recipe: Recipe,
    device: torch.device,
    reporter: Reporter,
) -> None:
    """Initialise the linear layer of `model` with the probe fitted on the `labelled` training clips.

    The regularisation is chosen on validation folds within these clips.
    """
    classes = np.array(model.classes)
    y = np.searchsorted(classes, motions.labels(labelled))
    task = f"features, {len(labelled)} labels"
    x = _training_features(
        model, motions, labelled, recipe, device, _progress_callback(reporter, task, recipe, len(labelled))
    )
    linear, _, _ = _fit_with_validation(
        x, y, validation_folds(motions, labelled), recipe.probe, recipe.seed, len(classes)
    )
    model.load_state_dict(linear.state(), strict=False)


ProgressCallback = Callable[[int], None]


def _progress_callback(reporter: Reporter, task: str, recipe: Recipe, clips: int, more: int = 0) -> ProgressCallback:
    """A callback that advances the progress of `task` by a number of clips."""
    done, total = 0, recipe.probe.copies * clips + more

    def advance(count: int) -> None:
        nonlocal done
        done += count
        reporter.progress(task, done, total)

    return advance


def _training_features(
    model: ActionClassifier,
    motions: Motions,
    train: ClipIds,
    recipe: Recipe,
    device: torch.device,
    advance: ProgressCallback,
) -> Floats:
    """Features of the original clips and of augmented copies, [copies, n, F]."""
    config, sizes = recipe.probe, recipe.model
    copies = [_pooled(model, evaluation_batches(motions, train, sizes, device), advance)]
    chunks = np.array_split(train, -(-len(train) // 64))
    for copy in range(1, config.copies):
        batches = (training_batch(motions, c, config.augment, recipe.seed, copy, sizes, device)[1] for c in chunks)
        copies.append(_pooled(model, batches, advance))
    return np.stack(copies)


@torch.no_grad()
def _pooled(model: ActionClassifier, batches: Iterable[Packed], advance: ProgressCallback) -> Floats:
    model.eval()
    rows = []
    for batch in batches:
        rows.append(model.pooled(batch).cpu().numpy())
        advance(len(rows[-1]))
    return np.concatenate(rows)


def _fit_with_validation(
    x: Floats, y: NDArray[np.int64], folds: Folds, config: ProbeConfig, seed: int, classes: int
) -> tuple[Linear, NDArray[np.int64], float | None]:
    """The classifier fitted on all clips, and the class predicted for each clip without its group, -1 if there is none.

    Chooses the regularisation with the most correct validation predictions; of equals, the strongest. It is returned,
    too.
    """
    choices = config.regularisation if config.solver == "lbfgs" else (None,)
    held_out = _validate(x, y, folds, config, seed, classes, choices)
    best = max(choices, key=lambda c: (int((held_out[c] == y).sum()), -(c or 0.0)))
    return _fit(x, y, classes, (best,), config, seed)[0], held_out[best], best


def _validate(
    x: Floats,
    y: NDArray[np.int64],
    folds: Folds,
    config: ProbeConfig,
    seed: int,
    classes: int,
    choices: tuple[float | None, ...],
) -> dict[float | None, NDArray[np.int64]]:
    """For each regularisation, the class predicted for each clip without its group, -1 if there is none."""
    held_out = {c: np.full(len(y), -1, np.int64) for c in choices}
    for fitted, held in folds:
        if not len(held) or len(np.unique(y[fitted])) < 2:
            continue
        for c, linear in zip(choices, _fit(x[:, fitted], y[fitted], classes, choices, config, seed), strict=True):
            held_out[c][held] = linear.logits(x[0, held]).argmax(1)
    return held_out


def _share_right(held_out: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of right predictions [R, n] of each clip, of those that there are; 0 if there are none."""
    share: NDArray[np.float64] = (held_out == y).sum(axis=0) / np.maximum((held_out >= 0).sum(axis=0), 1)
    return share


def _fit(
    x: Floats,
    y: NDArray[np.int64],
    classes: int,
    choices: tuple[float | None, ...],
    config: ProbeConfig,
    seed: int,
) -> list[Linear]:
    """One classifier per choice of C, fitted on features [copies, n, F]; the copies of a clip share its weight."""
    flat, answer = x.reshape(-1, x.shape[2]), np.tile(y, len(x))
    if config.solver == "adam":
        return [_adam(flat, answer, classes, config, seed)]
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean = flat.mean(0)
    scale = np.maximum(flat.std(0), 1e-6)
    flat = (flat - mean) / scale
    seen = np.unique(y)
    linears = []
    for c in choices:
        solver = LogisticRegression(C=c, max_iter=200, tol=1e-3)
        with warnings.catch_warnings():
            # A fit that stops early is a little more regularised; validation clips choose among them all the same.
            warnings.simplefilter("ignore", ConvergenceWarning)
            solver.fit(flat, answer, sample_weight=np.full(len(flat), 1 / len(x), np.float32))
        weight = np.zeros((classes, flat.shape[1]), np.float32)
        bias = np.full(classes, -1e9, np.float32)  # a class that is not in the fold is never predicted
        if len(seen) == 2:  # sklearn keeps one row for two classes
            weight[seen[1]], bias[seen] = solver.coef_[0], (0, solver.intercept_[0])
        else:
            weight[seen], bias[seen] = solver.coef_, solver.intercept_
        linears.append(Linear(mean, scale, weight, bias))
    return linears


def _adam(x: Floats, y: NDArray[np.int64], classes: int, config: ProbeConfig, seed: int) -> Linear:
    """The paper's solver: a linear layer on unstandardised features, Adam at a constant learning rate."""
    generator = torch.Generator().manual_seed(seed)
    data, answer = torch.from_numpy(x), torch.from_numpy(y)
    bound = x.shape[1] ** -0.5
    weight = torch.empty(classes, x.shape[1]).uniform_(-bound, bound, generator=generator).requires_grad_()
    bias = torch.empty(classes).uniform_(-bound, bound, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([weight, bias], lr=config.lr)
    for _ in range(config.epochs):
        for rows in torch.split(torch.randperm(len(data), generator=generator), config.batch):
            loss = F.cross_entropy(data[rows] @ weight.T + bias, answer[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    width = x.shape[1]
    return Linear(
        np.zeros(width, np.float32), np.ones(width, np.float32), weight.detach().numpy(), bias.detach().numpy()
    )


def _nearest(train: Floats, test: Floats) -> NDArray[np.int64]:
    """For each test clip, the index of the training clip of highest cosine similarity, after subtracting the mean."""
    centre = train.mean(0)
    a, b = train - centre, test - centre
    a /= np.linalg.norm(a, axis=1, keepdims=True).clip(1e-12)
    nearest: NDArray[np.int64] = (b @ a.T).argmax(1)
    return nearest


def _softmax(logits: Floats) -> Floats:
    result: Floats = torch.from_numpy(logits).softmax(1).numpy()
    return result
