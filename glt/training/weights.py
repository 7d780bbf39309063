"""Weights on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def write_weights(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file.

    Python writes it: the writer of safetensors hides the operating system's error, such as a full disk.

    Raises:
        OSError: the file cannot be written.
    """
    file.write_bytes(save({name: value.contiguous() for name, value in tensors.items()}))
