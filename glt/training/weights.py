"""Weights on disk: safetensors, written by Python and read within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from glt import artifact

_HEADER = 8 << 20  # bytes; the largest model that a recipe allows needs under 1 MiB, with its optimiser


def write_weights(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file.

    Python writes it: the writer of safetensors hides the operating system's error, such as a full disk.

    Raises:
        OSError: the file cannot be written.
    """
    file.write_bytes(save({name: value.contiguous() for name, value in tensors.items()}))


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file, which may come from anywhere.

    Raises:
        GltError: it is missing, no regular file, has a header above 8 MiB, or the header does not fit the rest.
    """
    with artifact.reading(file):
        if not file.is_file():
            raise ValueError("not a regular file" if file.exists() else "missing")
        with file.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
        if header > _HEADER:
            raise ValueError(f"a header of {header} bytes, above {_HEADER}")
        return load_file(file)
