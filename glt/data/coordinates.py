"""Coordinates of files: their conversion to right-handed axes and the layout's unit, as `skeleton.yaml` declares it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}  # by the unit of files
AXES = "xyz"


@dataclass(frozen=True)
class Coordinates:
    """The axes and the unit of files.

    Attributes:
        up: the axis that points up, such as ``-y``; None if it is the layout's.
        mirror: the axis that is reversed, because the axes are left-handed; None if they are right-handed.
        unit: of the coordinates; None if it is the layout's.
        image_height: in pixels, if that is the unit.
    """

    up: str | None = None
    mirror: str | None = None
    unit: str | None = None
    image_height: float | None = None

    @property
    def scale(self) -> float:
        """The layout's units per unit of the files."""
        return METRES.get(self.unit or "m", 1.0) if self.image_height is None else 1 / self.image_height

    @property
    def factors(self) -> tuple[float, float, float]:
        """Factors of x, y and z; negative for an axis that points the other way in the layout."""
        factors = [self.scale] * 3
        if self.up is not None and self.up.startswith("-"):
            # A half turn about a horizontal axis, so left and right stay as they are.
            axis = AXES.index(self.up[-1])
            factors[axis] *= -1
            factors[(axis + 1) % 3] *= -1
        if self.mirror is not None:
            factors[AXES.index(self.mirror)] *= -1
        return factors[0], factors[1], factors[2]

    def __call__(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert positions [..., 3] of a file; NaN and infinite values stay what they are."""
        if self.factors == (1.0, 1.0, 1.0):
            return frames
        with np.errstate(over="ignore", invalid="ignore"):
            return frames * np.asarray(self.factors, np.float32) + np.float32(0)  # no negative zeros

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Coordinates:
        """The inverse of `to_dict`."""
        return Coordinates(**values)


AS_READ = Coordinates()  # nothing is converted
