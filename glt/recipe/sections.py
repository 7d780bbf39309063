"""The sections of a recipe but `data`: what is computed, trained, measured and decided.

Sections, equations and tables quoted below are those of the paper (ECCV 2022).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from glt.recipe.data import FORMER_CHECKS
from glt.recipe.section import Section

Pool = Literal["mean", "max", "min", "std"]
WIDEST = 4096  # dimensions of a token
Part = Annotated[int, Field(ge=1, le=16)]
Interval = Annotated[int, Field(ge=1, le=10_000)]
Regularisation = Annotated[float, Field(ge=1e-9, le=1e9)]
Rate = Annotated[float, Field(gt=0, le=1e30)]  # of learning; as a float32
Weight = Annotated[float, Field(ge=0, le=1e6)]
Batch = Annotated[int, Field(ge=1, le=1_000_000)]


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
    intervals: tuple[Interval, ...] = Field((1, 5, 10), min_length=1, max_length=32, description="frames, Table 1")
    bins: Literal["fitted", "fixed"] = Field(
        "fitted", description="magnitude edges: quantiles of the training split, or the authors' 1 cm steps"
    )
    magnitude_classes: int = Field(15, ge=2, le=128, description="C_sigma; `fixed` bins have 15")
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
        if len(set(self.intervals)) != len(self.intervals):
            raise ValueError("intervals: a value is given twice, remove one of the two")
        if self.bins == "fixed" and self.magnitude_classes != 15:
            raise ValueError("magnitude_classes: the fixed bins have 15")
        if self.stream != "joint" and self.global_translation == "mixed":
            raise ValueError("stream: bone and motion need the global translation apart, or left out")
        return self


class ModelConfig(Section):
    """The Global-local Motion Transformer (Sec. 3.2 and 4.2)."""

    max_frames: int = Field(
        300,
        ge=2,
        le=10_000,
        validation_alias=AliasChoices("max_frames", "frames"),  # the former name, in stored recipes
        description="T_max, the longest clip",
    )
    head_dim: int = Field(6, ge=1, le=512, description="dimensions of a head per joint; a token has heads x head_dim")
    heads: int = Field(8, ge=1, le=512)
    depth: int = Field(4, ge=1, le=256, description="N blocks")
    ff_ratio: int = Field(2, ge=1, le=64)
    dropout: float = Field(0.1, ge=0, lt=1)
    drop_path: float = Field(0.1, ge=0, lt=1)
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="of attention weights; the authors' code has 0.1")
    embedding_gain: float = Field(
        1.0, gt=0, le=1e6, description="factor of the embedding's first weights: metres are small beside its bias"
    )
    positional: Literal["tight", "trainable", "sinusoidal"] = Field(
        "tight", description="M before both attentions of every block, M once, or fixed waves once (Table 2)"
    )
    tables: Literal["shared", "per-block"] = Field(
        "shared", description="tight only: one table M for all blocks (the paper) or one a block (the authors' code)"
    )
    positional_start: Literal["sinusoidal", "zeros"] = Field(
        "sinusoidal", description="initial values of the learned table; from zeros (the authors' code) learning stalls"
    )
    person_attention: bool = Field(True, description="whether the spatial attention crosses persons (Table 2)")
    attend_absent: bool = Field(False, description="whether tokens of absent persons are attended (the authors' code)")
    speed: Literal["natural", "fixed"] = Field(
        "natural", description="clips at their own length, or all resampled to `max_frames` (Table A)"
    )
    longer: Literal["resample", "crop", "windows"] = Field(
        "resample", description="clips above `max_frames`: resampled, cut to a part, or attended to in windows"
    )

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.tables == "per-block" and self.positional != "tight":
            raise ValueError("tables: per-block only with positional: tight")
        if self.width > WIDEST:
            raise ValueError(f"heads x head_dim is {self.width}, the dimensions of a token; at most {WIDEST}")
        return self

    @property
    def width(self) -> int:
        """D, dimensions per token."""
        return self.heads * self.head_dim


class AugmentConfig(Section):
    """Random changes of a training clip (Sec. 4.2)."""

    shear: float = Field(0.3, ge=0, le=10, description="bound of the six off-diagonal factors, local motion only")
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
        "",
        max_length=300,
        description="registered model, NAME/VERSION, whose encoder it starts from; none: random weights",
    )
    epochs: int = Field(120, ge=1, le=1_000_000)
    batch: Batch = Field(128, description="clips")
    lr: Rate = 5e-4
    schedule: Literal["exponential", "cosine"] = Field("exponential", description="x0.99 an epoch, or warm-up + cosine")
    weight_decay: Weight = 0.1
    clip: float | None = Field(None, gt=0, le=1e9, description="norm that a longer gradient is scaled down to")
    lambda_direction: Weight = 1.0
    lambda_magnitude: Weight = 1.0
    lambda_global: Weight = Field(0.05, description="weight of the global translation's loss beside the joints'")
    global_intervals: Literal["all", "first"] = Field(
        "all", description="whose global translation has that weight; `first` (authors): the others count as joints"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of matrix products; weights and loss are float32. bfloat16: GPU only; auto: bfloat16 on a GPU, "
        "float32 on a CPU; float32 on a GPU is TF32",
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
    pool: tuple[Pool, ...] = Field(
        ("mean",), min_length=1, max_length=4, description="statistics over the frames of a clip"
    )
    parts: tuple[Part, ...] = Field(
        (1,),
        min_length=1,
        max_length=16,
        description="of the whole clip (1), and of its halves (2), thirds (3), ... one by one",
    )
    copies: int = Field(
        1, ge=1, le=1000, description="the clip itself and copies - 1 augmented ones train the classifier"
    )
    augment: AugmentConfig = AugmentConfig(shear=0.0, interpolate=0.1)
    solver: Literal["adam", "lbfgs"] = Field("adam", description="the paper's, or regularised logistic regression")
    epochs: int = Field(300, ge=1, le=1_000_000, description="adam only")
    batch: Batch = Field(1024, description="adam only")
    lr: Rate = Field(3e-3, description="adam only")
    regularisation: tuple[Regularisation, ...] = Field(
        (1e-3, 1e-2, 1e-1, 1.0), min_length=1, max_length=100, description="lbfgs only: C, chosen on validation folds"
    )


class FinetuneConfig(Section):
    """Semi-supervised protocol: encoder and classifier trained on few labels (Sec. 4.1)."""

    epochs: int = Field(100, ge=0, le=1_000_000, description="0 leaves the classifier as it starts")
    batch: Batch = 32
    start: Literal["random", "probe"] = Field(
        "random", description="the classifier's: random weights, or the linear probe fitted on the few labels"
    )
    lr: Rate = Field(1e-3, description="of the classifier")
    encoder_lr: float = Field(1e-4, ge=0, le=1e30, description="of the pretrained encoder")
    weight_decay: Weight = 0.01
    features: Literal["head", "blocks"] = Field("head", description="as of the probe")
    pool: tuple[Pool, ...] = Field(("mean",), min_length=1, max_length=4, description="as of the probe")
    parts: tuple[Part, ...] = Field((1,), min_length=1, max_length=16, description="as of the probe")
    augment: AugmentConfig = AugmentConfig()


class GateConfig(Section):
    """The conditions for a new version to replace the champion.

    The gate's split is the probe's validation, never the test split.
    """

    test: Literal["subjects", "clips"] = Field(
        "subjects",
        description="unit of the paired test: subjects (t-test on their gains), or clips (exact McNemar test), for a "
        "model that is meant for one person",
    )
    repeats: int = Field(
        3, ge=1, le=100, description="draws of the probe's validation folds, if there are more groups than folds"
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="significance level of the one-sided paired test")
    class_drop: float = Field(0.15, ge=0, le=1, description="by which a class may be recalled worse than before")
    least_class: int = Field(
        20, ge=1, le=1_000_000_000, description="validation clips of a class below which it is not looked at"
    )
    latency_ratio: float = Field(1.5, gt=0, le=1e9, description="of one clip on one thread, to the champion's")
    latency_ms: float | None = Field(None, gt=0, le=1e9, description="the same, in milliseconds")
    tolerated: tuple[str, ...] = Field(("leak",), description="checks of recordings whose alarms stop no promotion")

    @field_validator("tolerated", mode="before")
    @classmethod
    def _rename_checks(cls, checks: Any) -> Any:
        return [FORMER_CHECKS.get(check, check) for check in checks] if isinstance(checks, (list, tuple)) else checks


class RetrainConfig(Section):
    """Scheduled retraining on new recordings."""

    start: Literal["champion", "scratch"] = Field("scratch", description="whose encoder pretraining goes on from")
    epochs: int | None = Field(
        None, ge=1, le=1_000_000, description="of a pretraining that goes on from the champion's encoder"
    )
    on_alarm: Literal["stop", "train"] = Field(
        "stop", description="when the recordings raise an alarm that gate.tolerated does not name"
    )
