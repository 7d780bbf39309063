"""The encoder with a linear classifier on top: fitted by the probe, trained by fine-tuning, kept and served."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from glt import artifact
from glt.errors import GltError
from glt.model import GLTransformer
from glt.motion.disentangle import Motions
from glt.motion.packed import Packed, frame_indices
from glt.recipe import Pool, Recipe
from glt.training.batches import ClipIds, evaluation_batches
from glt.training.encoder import encoder_config, encoder_from
from glt.training.weights import write_weights

Features = Literal["head", "blocks"]


class ActionClassifier(nn.Module):
    """Frames -> encoder -> statistics over the frames of a clip -> standardise -> linear layer.

    Args:
        encoder: pretrained or not.
        classes: their names, in the order of the logits.
        features: F of Eq. 11 (``head``), or the outputs of all blocks and F (``blocks``).
        pool: statistics over the frames of a clip; the paper has the mean.
        parts: over how many equal parts of a clip they are taken, one after the other: 1 is the whole clip.
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
        """One vector a clip, [B, width]."""
        layers = self.encoder.layers(batch.tokens, batch.present, batch.lengths)
        chosen = layers if self.features == "blocks" else layers[-1:]
        return torch.cat([pool_frames(layer, batch, self.pool, n) for layer in chosen for n in self.parts], dim=1)

    def forward(self, batch: Packed) -> Tensor:
        """Logits [B, classes]."""
        logits: Tensor = self.linear((self.pooled(batch) - self.mean) / self.scale)
        return logits


def pool_frames(frames: Tensor, batch: Packed, pool: Sequence[Pool], parts: int = 1) -> Tensor:
    """Statistics over the frames of each of `parts` equal parts of each clip: [S, E] -> [B, parts * len(pool) * E].

    Where parts do not meet between two frames, the frame counts for both; so no part is without any.
    """
    row, part = _in_parts(batch, parts)  # a row of `frames`, and the part it counts for
    if parts > 1:
        frames = frames.index_select(0, row)
    count = len(batch.lengths) * parts
    counts = torch.bincount(part, minlength=count)[:, None]
    mean = frames.new_zeros(count, frames.shape[1]).index_add(0, part, frames) / counts
    statistics: dict[Pool, Tensor] = {"mean": mean}
    if "max" in pool:
        statistics["max"] = _highest(frames, part, count)
    if "min" in pool:
        statistics["min"] = -_highest(-frames, part, count)
    if "std" in pool:
        square = torch.zeros_like(mean).index_add(0, part, (frames - mean[part]).square())
        statistics["std"] = (square / counts + 1e-12).sqrt()
    pooled = torch.cat([statistics[name] for name in pool], dim=1)  # B * parts, len(pool) * E
    return pooled.view(len(batch.lengths), -1)


def _highest(frames: Tensor, part: Tensor, count: int) -> Tensor:
    """The maximum of each part's frames, [count, E]."""
    lowest = frames.new_full((count, frames.shape[1]), float("-inf"))
    return lowest.scatter_reduce(0, part[:, None].expand_as(frames), frames, "amax")


def _in_parts(batch: Packed, parts: int) -> tuple[Tensor, Tensor]:
    """Rows of packed frames by the parts that they count for, and those parts (clip * parts + part), [S'] each."""
    length, number = batch.counts[:, None], torch.arange(parts, device=batch.tokens.device)
    first = number * length // parts  # B, parts
    last = -(-(number + 1) * length // parts)
    part, place = frame_indices((last - first).flatten().tolist(), batch.tokens.device)
    start = (batch.counts.cumsum(0) - batch.counts)[:, None] + first
    return start.flatten()[part] + place, part


def training_classes(motions: Motions) -> list[str]:
    """The names of the classes that have labelled training clips, sorted.

    Raises:
        GltError: there is one class only, or none.
    """
    classes: list[str] = np.unique(motions.labels(motions.clip_ids("train", labelled=True))).tolist()
    if len(classes) < 2:
        raise GltError(f"{motions.path}: every labelled training clip is {classes[0]!r}; add clips of a second class")
    return classes


@torch.no_grad()
def predict(model: ActionClassifier, motions: Motions, clip_ids: ClipIds, device: torch.device) -> pd.DataFrame:
    """A row a clip: name, label, predicted, clean, persons, confidence, and a column p_<class> for each class."""
    model.eval()
    batches = evaluation_batches(motions, clip_ids, model.encoder.config, device)
    logits = torch.cat([model(batch).cpu() for batch in batches])
    return predictions(motions, clip_ids, logits.softmax(1).numpy(), model.classes)


def predictions(
    motions: Motions, clip_ids: ClipIds, probability: NDArray[np.float32], classes: Sequence[str]
) -> pd.DataFrame:
    """The table of `predict`, from class probabilities [n, classes]."""
    table = motions.index.iloc[clip_ids][["name", "label", "clean", "persons"]].reset_index(drop=True)
    answer = answers(probability, classes)
    table.insert(2, "predicted", answer.pop("label"))
    return pd.concat([table, answer], axis=1)


def answers(probability: NDArray[np.float32], classes: Sequence[str]) -> pd.DataFrame:
    """A row a clip: label, confidence, and a column p_<class> for each class; from probabilities [n, classes]."""
    best = {"label": np.asarray(classes)[probability.argmax(1)], "confidence": probability.max(1)}
    return pd.DataFrame(best | {f"p_{name}": probability[:, number] for number, name in enumerate(classes)})


def accuracy(table: pd.DataFrame, key: str = "top1") -> dict[str, float]:
    """``<key>`` over all clips of a table of predictions, ``<key>_clean`` over those without a duplicate in training.

    Where clips show different numbers of persons, ``<key>_persons_<n>`` over those of n.

    What has no clip is left out.
    """
    right = table["label"] == table["predicted"]
    shares = {key: right, f"{key}_clean": right[table["clean"]]}
    if table["persons"].nunique() > 1:
        shares |= {f"{key}_persons_{n}": right[table["persons"] == n] for n in sorted(table["persons"].unique())}
    return {name: float(share.mean()) for name, share in shares.items() if len(share)}


FILES = frozenset(
    {"model.safetensors", "config.json", "metrics.json"}
    | {f"{name}.parquet" for name in ("predictions", "validation", "labelled")}
)


def save_classifier(
    model: ActionClassifier,
    motions: Motions,
    recipe: Recipe,
    tables: Mapping[str, pd.DataFrame],
    metrics: Mapping[str, float],
    out: Path,
    info: Mapping[str, Any],
) -> None:
    """The ``classifier`` artifact: all that serving needs, and the predictions that the gate and the report read."""
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


def load_classifier(path: Path) -> tuple[ActionClassifier, dict[str, Any]]:
    """The classifier of such an artifact, verified, and its config: tensors and JSON, nothing that could run.

    Raises:
        GltError: the folder is not whole, or holds another file than a classifier has.
    """
    artifact.open_artifact(path, "classifier", only=FILES)
    config: dict[str, Any] = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
    weights = load_file(Path(path) / "model.safetensors")
    encoder = encoder_from(
        config["encoder"],
        {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")},
    )
    model = ActionClassifier(encoder, config["classes"], **config["features"])
    model.load_state_dict(weights)
    return model.eval(), config
