"""Tensors on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def write_weights(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file.

    By Python's own writing: safetensors' hides what the system said (a full disk, say) in an error of its own.

    Raises:
        OSError: it cannot be written.
    """
    file.write_bytes(save({name: value.contiguous() for name, value in tensors.items()}))
