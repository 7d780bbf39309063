"""The data section of a recipe: which recordings, how they are split, and what is checked of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from glt.recipe.section import NAME, Section, Seed

Protocol = Literal[
    "xsub", "xview", "xset", "cross-view", "5-fold", "leave-one-subject-out", "random-subjects", "column", "given"
]
Number = Annotated[int, Field(ge=0, lt=2**63)]
FORMER_CHECKS = {"sides": "overlap", "twins": "duplicates"}  # checks of recordings that older files know by other names
# The fields that only some protocols have.
_FIELDS_OF: dict[str, tuple[str, ...]] = {
    "5-fold": ("fold",),
    "leave-one-subject-out": ("held",),
    "random-subjects": ("test_share", "split_seed"),
    "column": ("column", "test_values"),
    "given": ("given",),
}


class ChecksConfig(Section):
    """The action that each check takes on a recording that looks wrong (docs/checks.md).

    Limits in metres hold for a person of 1.7 where the layout has another unit.
    """

    finite: Literal["reject", "repair"] = Field("reject", description="NaN or infinite; repair interpolates in time")
    range: Literal["reject", "warn", "ignore"] = Field("reject", description="farther from the sensor than `farthest`")
    farthest: float = Field(100.0, gt=0, le=1e9, description="metres on an axis")
    missing: Literal["reject", "warn", "repair", "ignore"] = Field(
        "repair", description="points at the origin, away from the body; repair interpolates"
    )
    bone_length: Literal["reject", "warn", "ignore"] = Field("warn", description="bones that no person has")
    longest_bone: float = Field(1.0, gt=0, le=1e9, description="metres, median of a clip")
    bone_spread: float = Field(
        1.5, gt=0, le=1e9, description="10th to 90th percentile within a clip, as a share of the median"
    )
    speed: Literal["reject", "warn", "repair", "ignore"] = Field(
        "warn", description="joints that jump away and back; repair interpolates"
    )
    fastest: float = Field(20.0, gt=0, le=1e9, description="metres a second")
    frozen: Literal["reject", "warn", "ignore"] = Field("warn", description="joints that do not move by a bit")
    frozen_seconds: float = Field(1.0, gt=0, le=1e6)
    repeated: Literal["reject", "warn", "repair", "ignore"] = Field(
        "warn", description="frames that are the one before once more; repair drops them"
    )
    repeated_share: float = Field(0.1, ge=0, lt=1, description="of a clip's frames, above which it counts")
    gaps: Literal["reject", "warn", "ignore"] = Field("warn", description="frames without anybody inside a clip")
    gap_share: float = Field(0.1, ge=0, lt=1, description="of a clip's frames, above which it counts")
    swapped: Literal["reject", "warn", "repair", "ignore"] = Field(
        "warn", description="two persons that change places; repair changes them back"
    )
    swap_metres: float = Field(
        0.5, gt=0, le=1e9, description="by which changing is the shorter way for the two together"
    )
    lost: Literal["warn", "repair", "ignore"] = Field(
        "repair", description="a person lost and found under another body id; repair joins the two"
    )
    lost_seconds: float = Field(1.0, gt=0, le=1e6, description="between losing and finding")
    lost_metres: float = Field(0.5, gt=0, le=1e9, description="between losing and finding")
    confidence: Literal["reject", "warn", "repair", "ignore"] = Field(
        "repair", description="points that a pose estimator does not believe in; repair interpolates"
    )
    least_confidence: float = Field(0.1, ge=0, le=1)
    short: Literal["reject", "warn", "ignore"] = Field("warn", description="too few frames")
    least_frames: int = Field(2, ge=1, le=1_000_000_000)


class DataConfig(Section):
    """The recordings and their split."""

    dataset: str = Field(pattern=NAME, max_length=64, description="name in the registry and in MLflow")
    format: Literal["ntu", "nw-ucla", "sbu", "pyskl", "table"] = Field(
        description="reader, one file in glt/data/formats"
    )
    layout: str | None = Field(
        None, description="the skeleton layout that clips get, if not their own: a name, or a declaration's text"
    )
    rate: float | None = Field(
        None, ge=0.1, le=10_000, description="frames a second that all clips are resampled to; none: their own"
    )
    protocol: Protocol
    fold: int = Field(1, ge=1, le=5, description="5-fold: the test fold")
    held: Number | None = Field(None, description="leave-one-subject-out: the subject that tests")
    test_share: float = Field(0.2, gt=0, lt=1, description="random-subjects: share of the subjects that test")
    split_seed: Seed = Field(0, description="random-subjects: another number is another draw")
    column: Literal["subject", "camera", "setup", "replication"] | None = Field(
        None, description="column: the number of a clip that decides its split"
    )
    test_values: tuple[Number, ...] = Field((), max_length=10_000, description="column: the numbers whose clips test")
    given: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]*$",
        max_length=64,
        description="given: which of the data set's own splits, as `xsub`; or its only",
    )
    deduplicate: bool = Field(False, description="leave out training clips that have a duplicate in the test split")
    persons: int = Field(1, ge=1, le=4, description="P: persons kept of a recording")
    bodies: Literal["active", "first"] = Field(
        "active", description="which ones: those that move most, or those that the file names first (authors)"
    )
    missing_list: bool = Field(True, description="whether recordings on NTU's official lists of bad ones are rejected")
    max_rejects: float = Field(0.02, ge=0, le=1, description="share of rejects, if at least five, that stops ingest")
    checks: ChecksConfig = ChecksConfig()

    @model_validator(mode="after")
    def _protocol_has_its_fields(self) -> DataConfig:
        own = _FIELDS_OF.get(self.protocol, ())
        for protocol, names in _FIELDS_OF.items():
            for name in names:
                if name not in own and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name}: a field of protocol {protocol}, not of {self.protocol}; remove it")
        for name in ("held", "column", "test_values"):
            if name in own and getattr(self, name) in (None, ()):
                raise ValueError(f"{name}: protocol {self.protocol} needs it")
        if len(set(self.test_values)) != len(self.test_values):
            raise ValueError("test_values: a value is given twice, remove one of the two")
        return self

    @property
    def protocol_name(self) -> str:
        """The protocol and what determines its test split, as in ``5-fold-2``, ``column-camera-1-3``."""
        distinct: dict[str, list[object]] = {
            "5-fold": [self.fold],
            "leave-one-subject-out": [self.held],
            "random-subjects": [f"{100 * self.test_share:g}pct".replace(".", "p"), self.split_seed],
            "column": [self.column, *sorted(self.test_values)],
            "given": [self.given] if self.given else [],
        }
        return "-".join(map(str, [self.protocol, *distinct.get(self.protocol, [])]))
