"""The typed configuration of a run.

A recipe is one YAML file a dataset x protocol x method (``glt/recipes/``); with `extends` it says only how it differs
from another. Every field has a type and a bound; an unknown key, a wrong type or an impossible combination is an error
that names the field.
Sections, equations and tables quoted below are those of the paper (ECCV 2022).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from glt.errors import GltError
from glt.recipe_data import DataConfig, Section, Seed

Fraction = float
Pool = Literal["mean", "max", "min", "std"]
Part = Annotated[int, Field(ge=1, le=16)]


class MotionConfig(Section):
    """Disentangling (Eq. 1-3) and the displacement classes (Eq. 13-14)."""

    yaw: Literal["none", "first-frame", "mean", "per-frame"] = Field(
        "none",
        description="turn about the vertical so that the shoulders lie along one axis: the whole clip by its first "
        "frame or by the mean of all, or every frame and person alone (the authors' code)",
    )
    global_translation: Literal["separate", "none", "mixed"] = Field(
        "separate", description="a token of its own; left out; or still in the joints' positions (Table 1)"
    )
    stream: Literal["joint", "bone", "motion"] = Field(
        "joint",
        description="local tokens: joints from the centre joint (the paper), each joint from the next one on the way "
        "to the centre, or the change of the former since the frame before; scores of several may be averaged",
    )
    intervals: tuple[int, ...] = Field((1, 5, 10), min_length=1, description="frames, Table 1")
    bins: Literal["fitted", "fixed"] = Field(
        "fitted", description="magnitude edges: quantiles of the training split, or the authors' 1 cm steps"
    )
    magnitude_classes: int = Field(15, ge=2, description="C_sigma; `fixed` bins have 15")
    dead_zone: float = Field(
        0.25, ge=0, lt=1, description="quantile of |displacement| on one axis below which it is `no movement`"
    )
    edge: Literal["zero", "first-frame"] = Field(
        "zero",
        description="displacement where there is no frame t - n: zero (Eq. 14), or since frame 0 (authors)",
    )
    absent: Literal["left-out", "own-class"] = Field(
        "left-out",
        description="targets of an absent person: no loss, or no movement and a magnitude of their own",
    )

    @model_validator(mode="after")
    def _consistent(self) -> MotionConfig:
        if any(n < 1 for n in self.intervals) or len(set(self.intervals)) != len(self.intervals):
            raise ValueError("intervals: frames >= 1, each once")
        if self.bins == "fixed" and self.magnitude_classes != 15:
            raise ValueError("magnitude_classes: the fixed bins have 15")
        if self.stream != "joint" and self.global_translation == "mixed":
            raise ValueError("stream: bone and motion need the global translation apart, or left out")
        return self


class ModelConfig(Section):
    """The Global-local Motion Transformer (Sec. 3.2 and 4.2)."""

    frames: int = Field(300, ge=2, description="T_max")
    head_dim: int = Field(6, ge=1, description="width of a head per joint; the token is heads x head_dim wide")
    heads: int = Field(8, ge=1)
    depth: int = Field(4, ge=1, description="N blocks")
    ff_ratio: int = Field(2, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    drop_path: float = Field(0.1, ge=0, lt=1)
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="of attention weights; the authors' code has 0.1")
    embedding_gain: float = Field(
        1.0, gt=0, description="factor of the embedding's first weights: metres are small beside its bias"
    )
    positional: Literal["tight", "trainable", "sinusoidal"] = Field(
        "tight", description="M before both attentions of every block, M once, or fixed waves once (Table 2)"
    )
    tables: Literal["shared", "per-block"] = Field(
        "shared", description="tight only: one table M for all blocks (the paper) or one a block (the authors' code)"
    )
    positional_start: Literal["sinusoidal", "zeros"] = Field(
        "sinusoidal", description="what the learned table starts from; from zeros (the authors' code) learning stalls"
    )
    person_attention: bool = Field(True, description="whether the spatial attention crosses persons (Table 2)")
    attend_absent: bool = Field(False, description="whether tokens of absent persons are attended (the authors' code)")
    speed: Literal["natural", "fixed"] = Field(
        "natural", description="clips at their own length, or all resampled to `frames` (Table A)"
    )
    longer: Literal["resample", "crop", "windows"] = Field(
        "resample", description="clips above `frames`: resampled, cut to a part, or attended to in windows"
    )

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.tables == "per-block" and self.positional != "tight":
            raise ValueError("tables: per-block only with positional: tight")
        return self

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return self.heads * self.head_dim


class AugmentConfig(Section):
    """Random changes of a training clip (Sec. 4.2)."""

    shear: float = Field(0.3, ge=0, description="bound of the six off-diagonal factors, local motion only")
    interpolate: float = Field(0.1, ge=0, lt=1, description="new length within +- this share of the old")
    yaw: float = Field(0.0, ge=0, le=180, description="bound of a random turn about the vertical, degrees")
    tilt: float = Field(0.0, ge=0, le=90, description="bound of a random turn about a horizontal axis, degrees")
    size: float = Field(0.0, ge=0, lt=1, description="bound of a change of all lengths, as a share of them")
    mirror: float = Field(0.0, ge=0, le=1, description="probability that left and right change places")
    mask: float = Field(0.0, ge=0, lt=1, description="share of tokens whose coordinates are zeroed (Table B)")
    shear_global: bool = Field(False, description="whether the global translation is sheared too")


class PretrainConfig(Section):
    """MPDP pretraining (Sec. 3.3 and 4.2)."""

    start: str = Field(
        "", description="registered model, NAME/VERSION, whose encoder it starts from; none: random weights"
    )
    epochs: int = Field(120, ge=1)
    batch: int = Field(128, ge=1, description="clips")
    lr: float = Field(5e-4, gt=0)
    schedule: Literal["exponential", "cosine"] = Field("exponential", description="x0.99 an epoch, or warm-up + cosine")
    weight_decay: float = Field(0.1, ge=0)
    clip: float | None = Field(None, gt=0, description="norm that a longer gradient is scaled down to")
    lambda_direction: float = Field(1.0, ge=0)
    lambda_magnitude: float = Field(1.0, ge=0)
    lambda_global: float = Field(0.05, ge=0, description="weight of the global translation's loss beside the joints'")
    global_intervals: Literal["all", "first"] = Field(
        "all", description="whose global translation has that weight; `first` (authors): the others count as joints"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: matrix products in bfloat16, weights and loss in float32; GPU only"
    )
    compile: bool = Field(False, description="torch.compile the layers on frames; GPU only")
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _learns(self) -> PretrainConfig:
        if self.lambda_direction == self.lambda_magnitude == 0:
            raise ValueError("lambda_direction and lambda_magnitude are both 0: nothing would be learned")
        return self


class ProbeConfig(Section):
    """Linear evaluation: a linear classifier on features of the frozen encoder (Sec. 4.1)."""

    features: Literal["head", "blocks"] = Field(
        "head", description="F of Eq. 11 (the paper), or the outputs of all blocks and F"
    )
    pool: tuple[Pool, ...] = Field(("mean",), min_length=1, description="statistics over the frames of a clip")
    parts: tuple[Part, ...] = Field(
        (1,), min_length=1, description="of the whole clip (1), and of its halves (2), thirds (3), ... one by one"
    )
    copies: int = Field(1, ge=1, description="the clip itself and copies - 1 augmented ones train the classifier")
    augment: AugmentConfig = AugmentConfig(shear=0.0, interpolate=0.1)
    solver: Literal["adam", "lbfgs"] = Field("adam", description="the paper's, or regularised logistic regression")
    epochs: int = Field(300, ge=1, description="adam only")
    batch: int = Field(1024, ge=1, description="adam only")
    lr: float = Field(3e-3, gt=0, description="adam only")
    regularisation: tuple[float, ...] = Field(
        (1e-3, 1e-2, 1e-1, 1.0), min_length=1, description="lbfgs only: C, chosen on validation folds"
    )


class FinetuneConfig(Section):
    """Semi-supervised protocol: encoder and classifier trained on few labels (Sec. 4.1)."""

    epochs: int = Field(100, ge=0, description="0 leaves the classifier as it starts")
    batch: int = Field(32, ge=1)
    start: Literal["random", "probe"] = Field(
        "random", description="the classifier's: random weights, or the linear probe fitted on the few labels"
    )
    lr: float = Field(1e-3, gt=0, description="of the classifier")
    encoder_lr: float = Field(1e-4, ge=0, description="of the pretrained encoder")
    weight_decay: float = Field(0.01, ge=0)
    features: Literal["head", "blocks"] = Field("head", description="as of the probe")
    pool: tuple[Pool, ...] = Field(("mean",), min_length=1, description="as of the probe")
    parts: tuple[Part, ...] = Field((1,), min_length=1, description="as of the probe")
    augment: AugmentConfig = AugmentConfig()


class GateConfig(Section):
    """When a new version replaces the champion. The gate's split is the probe's validation, never the test side."""

    alpha: float = Field(0.05, gt=0, lt=1, description="significance level of the one-sided paired test")
    class_drop: float = Field(0.15, ge=0, le=1, description="by which a class may be recalled worse than before")
    least_class: int = Field(20, ge=1, description="validation clips of a class below which it is not looked at")
    latency_ratio: float = Field(1.5, gt=0, description="of one clip on one thread, to the champion's")
    latency_ms: float | None = Field(None, gt=0, description="the same, in milliseconds")
    tolerated: tuple[str, ...] = Field(("leak",), description="checks of recordings whose alarms stop no promotion")


class RetrainConfig(Section):
    """What a scheduled retraining does with new recordings."""

    start: Literal["champion", "scratch"] = Field("scratch", description="whose encoder pretraining goes on from")
    epochs: int | None = Field(None, ge=1, description="of a pretraining that goes on from the champion's encoder")
    on_alarm: Literal["stop", "train"] = Field(
        "stop", description="when the recordings raise an alarm that gate.tolerated does not name"
    )


class Recipe(Section):
    """A whole run: dataset x protocol x method."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    data: DataConfig
    motion: MotionConfig = MotionConfig()
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    probe: ProbeConfig = ProbeConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    gate: GateConfig = GateConfig()
    retrain: RetrainConfig = RetrainConfig()
    seed: Seed = 0
    fractions: tuple[Fraction, ...] = Field((0.05, 0.10), description="labelled fractions of the fine-tuning")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="draws of the labelled clips")
    arm: str = Field(
        "",
        pattern=r"^[a-z0-9-]*$",
        description="of a study (glt/study.py): its steps are told apart from other arms' by it",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if any(not 0 < f <= 1 for f in self.fractions):
            raise ValueError("fractions: above 0, at most 1")
        if len(set(self.fractions)) != len(self.fractions) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("fractions and seeds: each once")
        if max(self.motion.intervals) >= self.model.frames:
            raise ValueError("motion.intervals: below model.frames, the longest clip")
        return self

    @property
    def trained_arm(self) -> str:
        """In a study, the arm and the seed, as in ``no-mask-seed0``: what its steps are told apart by; else empty."""
        return f"{self.arm}-seed{self.seed}" if self.arm else ""

    @property
    def model_name(self) -> str:
        """Registered model: glt-<dataset>-<split>; a fold has a model of its own, as its test side is its own."""
        return f"glt-{self.experiment}"

    @property
    def experiment(self) -> str:
        """MLflow experiment: <dataset>-<split>."""
        return f"{self.data.dataset}-{self.data.split}"

    def to_json(self) -> str:
        """Canonical text: equal recipes give equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names, as ``pretrain.lr``."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def names() -> list[str]:
    """The recipes that come with the project."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def load(recipe: str) -> Recipe:
    """A recipe by name (``sample``), by path (``mine.yaml``) or as YAML/JSON text (what a pipeline carries).

    Raises:
        GltError: there is no such recipe, or a field is wrong; names the field and what it may be.
    """
    fields, origin = _fields(recipe, ())
    return parse(fields, origin)


def changed(recipe: Recipe, changes: dict[str, Any], origin: str) -> Recipe:
    """The recipe with some fields replaced, section by section; `origin` is named in errors.

    Raises:
        GltError: a field is wrong.
    """
    return parse(_over(recipe.model_dump(), changes), origin)


def parse(fields: dict[str, Any], origin: str) -> Recipe:
    """A recipe from its fields; `origin` is named in errors."""
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'recipe'}: "
            + ("unknown key, remove it or correct its spelling" if e["type"] == "extra_forbidden" else e["msg"])
            for e in error.errors()
        )
        raise GltError(f"recipe {origin}: {problems}") from error


def _fields(recipe: str, above: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The fields of a recipe, over those of the recipe it extends, and what to call it."""
    text, origin = _text(recipe)
    if origin in above:
        raise GltError(f"recipe {origin}: extends itself, by way of {' and '.join(above)}; break the circle")
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise GltError(f"recipe {origin}: not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise GltError(f"recipe {origin}: expected `key: value` lines; start from one of {', '.join(names())}")
    parent = fields.pop("extends", None)
    if parent is None:
        return fields, origin
    if not isinstance(parent, str):
        raise GltError(f"recipe {origin}: extends: give the name or path of one recipe")
    return _over(_fields(parent, (*above, origin))[0], fields), origin


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both sets of fields; of those in both, the ones above, section by section."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _folder() -> Any:
    return resources.files("glt") / "recipes"


def _text(recipe: str) -> tuple[str, str]:
    if "\n" in recipe or recipe.lstrip().startswith("{"):
        return recipe, "given as text"
    if recipe in names():
        return (_folder() / f"{recipe}.yaml").read_text(encoding="utf-8"), recipe
    path = Path(recipe)
    if path.suffix in {".yaml", ".yml", ".json"}:
        if not path.is_file():
            raise GltError(f"recipe {path}: no such file")
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise GltError(f"recipe {path}: not a text file ({error})") from error
    raise GltError(f"unknown recipe {recipe!r}: take one of {', '.join(names())}, or a path to a .yaml file")
