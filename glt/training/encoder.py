"""The ``encoder`` artifact: an encoder's weights, sizes and training history."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from glt import artifact
from glt.errors import GltError, SharedError, first_line
from glt.model import GLTransformer
from glt.motion.disentangle import Motions
from glt.recipe import ModelConfig
from glt.training.weights import read_weights, write_weights


def build_encoder(config: ModelConfig, motions: Motions) -> GLTransformer:
    """An encoder with random weights, for the persons and tokens of these motions."""
    return GLTransformer(config, motions.persons, motions.joints, motions.global_tokens)


def copy_weights(source: GLTransformer, target: GLTransformer) -> None:
    """Copy the weights of one encoder to another.

    Raises:
        SharedError: their sizes differ.
    """
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        why = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise SharedError(
            f"pretrain.start: that model's encoder has other sizes ({why}); train from scratch"
        ) from error


def save_encoder(encoder: GLTransformer, history: list[dict[str, float]], out: Path, info: Mapping[str, Any]) -> None:
    """Write an ``encoder`` artifact at `out`: weights, configuration, training history."""
    with artifact.create(out, "encoder", info) as folder:
        write_weights(folder / "model.safetensors", encoder.state_dict())
        artifact.write_json(folder / "config.json", encoder_config(encoder))
        artifact.write_json(folder / "history.json", history)


def encoder_config(encoder: GLTransformer) -> dict[str, Any]:
    """The configuration from which `encoder_from` builds the encoder, as JSON values."""
    return {
        "model": encoder.config.model_dump(mode="json"),
        "persons": encoder.persons,
        "joints": encoder.joints,
        "global_tokens": encoder.global_tokens,
    }


def encoder_from(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> GLTransformer:
    """Build an encoder from `encoder_config` and a state dict; former names of fields are read too.

    Raises:
        GltError: the configuration or the weights are of an incompatible version of glt.
    """
    try:
        sizes = ModelConfig.model_validate(config["model"])
        global_tokens = config["global_tokens"] if "global_tokens" in config else config["worlds"]  # the former name
        persons, joints = config["persons"], config["joints"]
        if sum(weight.numel() for weight in weights.values()) < sizes.depth * (persons * joints * sizes.width) ** 2:
            raise ValueError("fewer weights than the configuration has")  # before memory is allocated for them
        encoder = GLTransformer(sizes, persons, joints, global_tokens)
        encoder.load_state_dict(dict(weights))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise GltError(
            f"the encoder is of another version of glt ({first_line(error)}); train again, or use that version"
        ) from error
    return encoder


def load_encoder(path: Path) -> GLTransformer:
    """Load the encoder of a verified ``encoder`` artifact.

    Raises:
        GltError: the folder is incomplete or damaged, or of an incompatible version of glt.
    """
    artifact.open_artifact(path, "encoder")
    config = artifact.read_json(Path(path) / "config.json", dict)
    return encoder_from(config, read_weights(Path(path) / "model.safetensors"))
