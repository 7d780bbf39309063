"""The action classifier (encoder and linear layer) that the probe fits and fine-tuning trains, and its artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glt import artifact
from glt.accelerator import upload
from glt.errors import GltError
from glt.model import GLTransformer
from glt.motion.disentangle import Motions
from glt.motion.packed import Packed, frames, starts
from glt.recipe import Pool, Recipe
from glt.training.batches import ClipIds, evaluation_batches
from glt.training.classifier_files import FILES
from glt.training.encoder import encoder_config, encoder_from
from glt.training.weights import read_weights, write_weights

Features = Literal["head", "blocks"]


class ActionClassifier(nn.Module):
    """Encoder, pooling over the frames of a clip, standardisation, linear layer.

    Args:
        encoder: with any weights.
        classes: names, in the order of the logits.
        features: F of Eq. 11 (``head``), or the outputs of all blocks and F (``blocks``).
        pool: statistics over the frames of a clip; the mean in the paper.
        parts: numbers of equal parts of a clip that the statistics are taken over: 1 is the whole clip, 2 its halves.
    """

    def __init__(
        self,
        encoder: GLTransformer,
        classes: Sequence[str],
        features: Features,
        pool: Sequence[Pool],
        parts: Sequence[int] = (1,),
    ) -> None:
        super().__init__()
        self.encoder, self.classes, self.features = encoder, tuple(classes), features
        self.pool, self.parts = tuple(pool), tuple(parts)
        layers = encoder.config.depth + 1 if features == "blocks" else 1
        width = layers * len(self.pool) * sum(self.parts) * encoder.width
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.linear = nn.Linear(width, len(self.classes))

    def pooled(self, batch: Packed) -> Tensor:
        """Pooled features, one vector per clip, [B, width]."""
        layers = self.encoder.layers(batch.tokens, batch.present, batch.lengths)
        chosen = layers if self.features == "blocks" else layers[-1:]
        return torch.cat([pool_frames(layer, batch, self.pool, n) for layer in chosen for n in self.parts], dim=1)

    def forward(self, batch: Packed) -> Tensor:
        """Logits [B, classes]."""
        logits: Tensor = self.linear((self.pooled(batch) - self.mean) / self.scale)
        return logits


def pool_frames(features: Tensor, batch: Packed, pool: Sequence[Pool], parts: int = 1) -> Tensor:
    """Statistics of features [S, E] over each of `parts` equal parts of each clip, [B, parts * len(pool) * E].

    A frame that lies in two parts counts for both, so that no part is empty.
    """
    rows, of_part = _frames_of_parts(batch, parts)
    device, count = features.device, len(batch.lengths) * parts
    if parts > 1:
        features = features.index_select(0, upload(rows, device))
    part, counts = upload(of_part, device), upload(np.bincount(of_part, minlength=count), device)[:, None]
    mean = features.new_zeros(count, features.shape[1]).index_add(0, part, features) / counts
    statistics: dict[Pool, Tensor] = {"mean": mean}
    if "max" in pool:
        statistics["max"] = _maximum(features, part, count)
    if "min" in pool:
        statistics["min"] = -_maximum(-features, part, count)
    if "std" in pool:
        square = torch.zeros_like(mean).index_add(0, part, (features - mean[part]).square())
        statistics["std"] = (square / counts + 1e-12).sqrt()
    pooled = torch.cat([statistics[name] for name in pool], dim=1)  # B * parts, len(pool) * E
    return pooled.view(len(batch.lengths), -1)  # B, parts * len(pool) * E


def _maximum(features: Tensor, part: Tensor, count: int) -> Tensor:
    """The maximum over the frames of each part, [count, E]."""
    lowest = features.new_full((count, features.shape[1]), float("-inf"))
    return lowest.scatter_reduce(0, part[:, None].expand_as(features), features, "amax")


def _frames_of_parts(batch: Packed, parts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Packed frames in the order of the parts that they count for, and these parts (clip * parts + part), [S'] each."""
    lengths, index = np.asarray(batch.lengths), np.arange(parts)
    first = index * lengths[:, None] // parts  # B, parts
    last = -(-(index + 1) * lengths[:, None] // parts)
    part, time = frames((last - first).ravel())
    start = starts(lengths)[:, None] + first
    return start.ravel()[part] + time, part


def training_classes(motions: Motions) -> list[str]:
    """Sorted names of the classes of the labelled training clips.

    Raises:
        GltError: there are fewer than two classes.
    """
    classes: list[str] = np.unique(motions.labels(motions.clip_ids("train", labelled=True))).tolist()
    if len(classes) < 2:
        raise GltError(f"{motions.path}: every labelled training clip is {classes[0]!r}; add clips of a second class")
    return classes


@torch.no_grad()
def predict(model: ActionClassifier, motions: Motions, clip_ids: ClipIds, device: torch.device) -> pd.DataFrame:
    """One row per clip: name, label, predicted, clean, persons, subject, camera, confidence, p_<class> per class."""
    model.eval()
    batches = evaluation_batches(motions, clip_ids, model.encoder.config, device)
    logits = torch.cat([model(batch).cpu() for batch in batches])
    return predictions(motions, clip_ids, logits.softmax(1).numpy(), model.classes)


def predictions(
    motions: Motions, clip_ids: ClipIds, probability: NDArray[np.float32], classes: Sequence[str]
) -> pd.DataFrame:
    """The table of `predict`, from class probabilities [n, classes]; subject and camera if the clips have them."""
    columns = ["name", "label", "clean", "persons", *motions.index.columns.intersection(["subject", "camera"])]
    table = motions.index.iloc[clip_ids][columns].reset_index(drop=True)
    answer = answers(probability, classes)
    table.insert(2, "predicted", answer.pop("label"))
    return pd.concat([table, answer], axis=1)


def answers(probability: NDArray[np.float32], classes: Sequence[str]) -> pd.DataFrame:
    """One row per clip: label, confidence, and p_<class> for each class; from probabilities [n, classes]."""
    best = {"label": np.asarray(classes)[probability.argmax(1)], "confidence": probability.max(1)}
    return pd.DataFrame(best | {f"p_{name}": probability[:, index] for index, name in enumerate(classes)})


def accuracy(table: pd.DataFrame, key: str = "top1") -> dict[str, float]:
    """Accuracy over all clips of a table of predictions (``<key>``), and without duplicates of training clips.

    The latter is ``<key>_clean``. If the number of persons varies, also over clips of n persons
    (``<key>_persons_<n>``). A metric over no clip is left out.
    """
    right = table["label"] == table["predicted"]
    shares = {key: right, f"{key}_clean": right[table["clean"]]}
    if table["persons"].nunique() > 1:
        shares |= {f"{key}_persons_{n}": right[table["persons"] == n] for n in sorted(table["persons"].unique())}
    return {name: float(share.mean()) for name, share in shares.items() if len(share)}


def save_classifier(
    model: ActionClassifier,
    motions: Motions,
    recipe: Recipe,
    tables: Mapping[str, pd.DataFrame],
    metrics: Mapping[str, float],
    out: Path,
    info: Mapping[str, Any],
) -> None:
    """Write a ``classifier`` artifact: what serving needs, and the predictions that the gate and the report read."""
    config = {
        "encoder": encoder_config(model.encoder),
        "classes": list(model.classes),
        "features": {"features": model.features, "pool": list(model.pool), "parts": list(model.parts)},
        "motion": recipe.motion.model_dump(mode="json"),
        "skeleton": motions.skeleton.to_dict(),
        "recipe": recipe.model_dump(mode="json"),
    }
    with artifact.create(out, "classifier", info) as folder:
        write_weights(folder / "model.safetensors", model.state_dict())
        artifact.write_json(folder / "config.json", config)
        artifact.write_json(folder / "metrics.json", dict(metrics))
        for name, table in tables.items():
            table.to_parquet(folder / f"{name}.parquet", index=False)


def read_validation(folder: Path) -> pd.DataFrame:
    """The validation predictions of a classifier: `glt.training.probe.Probe.validation`.

    Raises:
        GltError: it has none, as it was fine-tuned.
    """
    file = Path(folder) / "validation.parquet"
    if not file.exists():
        raise GltError(
            f"{folder}: no validation predictions, which only `glt linear-probe` makes; give a classifier of it"
        )
    with artifact.reading(file):
        return pd.read_parquet(file)


def load_classifier(path: Path) -> tuple[ActionClassifier, dict[str, Any]]:
    """Load a verified ``classifier`` artifact: the network in evaluation mode, and config.json. Nothing is unpickled.

    Raises:
        GltError: the folder is incomplete or damaged, or holds a file that is no part of a classifier.
    """
    artifact.open_artifact(path, "classifier", only=FILES)
    config: dict[str, Any] = artifact.read_json(Path(path) / "config.json", dict)
    weights = read_weights(Path(path) / "model.safetensors")
    with artifact.reading(Path(path) / "config.json"):
        encoder = encoder_from(
            config["encoder"],
            {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")},
        )
        model = ActionClassifier(encoder, config["classes"], **config["features"])
        model.load_state_dict(weights)
    return model.eval(), config
