"""The device that computes: a CPU or a GPU, and what a GPU needs that a CPU does not."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from glt.errors import GltError

GPUS = {"cuda"}  # types of devices


def device(accelerator: str) -> torch.device:
    """The device of an accelerator profile: ``cpu``, ``gpu``, or ``auto`` (a GPU if there is one).

    On a GPU, float32 matrix products are computed in TF32 from here on: 8 times as fast or more, with factors of 10
    bits after the point (docs/train.md). NVIDIA_TF32_OVERRIDE=0 in the environment keeps them in float32.

    Raises:
        GltError: a GPU is asked for and none is visible.
    """
    if accelerator not in {"cpu", "gpu", "auto"}:
        raise GltError(f"accelerator {accelerator!r}: take cpu, gpu or auto")
    if accelerator == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        return torch.device("cuda")
    if accelerator == "gpu":
        raise GltError("accelerator gpu: torch sees no GPU; install a CUDA build of torch, or take cpu or auto")
    return torch.device("cpu")


def on_gpu(device: torch.device) -> bool:
    """True for a GPU, where operations cost their launch and the host must not wait for results."""
    return device.type in GPUS


def upload(values: NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor on `device`; the host does not wait for the copy. On a CPU they share their memory."""
    return send(torch.from_numpy(values), device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of this process's memory on `device`; the host does not wait for the copy, which starts when it can.

    From pageable memory a copy to a GPU waits for all the work before it, so it goes through pinned memory.
    """
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor in pinned memory if `device` is a GPU."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
