"""Data-parallel training: the processes that torchrun started, or this process alone.

Every process holds the whole model and trains on a share of every batch. Processes communicate through gloo on CPUs
and through NCCL on GPUs, one GPU per process. NCCL has not been tested: no machine with several GPUs was available.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from glt.accelerator import device as device_of
from glt.errors import GltError, SharedError

# A process waits at its next exchange while rank 0 writes: a checkpoint of the largest recipe has 2.5 GB, and at the
# end of a training the encoder is stored in MLflow, too. NCCL would give up after 10 minutes. A process that dies, or a
# node that is lost, is noticed by torchrun and by the job, not by this limit.
EXCHANGE_TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """The rank of this process among those that train together.

    Attributes:
        device: of this process.
        rank: index of this process; 0 reports, measures time and writes.
        size: number of processes.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """True for the process that reports and writes."""
        return self.rank == 0

    def parallel(self, model: nn.Module) -> nn.Module:
        """`model` such that after `backward` every process holds the mean of their gradients; shares its weights."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model)

    def total(self, value: Tensor) -> Tensor:
        """The sum of the processes' values, in all of them; `value` stays."""
        if self.size == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value

    def share(self, weights: Sequence[int]) -> list[int]:
        """Indices of this process's share of items with these weights; see `partition`."""
        return partition(weights, self.size)[self.rank]

    def agree(self, what: str, *values: int) -> None:
        """Check that all processes hold the same values.

        Raises:
            SharedError: the values differ.
        """
        if self.size == 1:
            return
        here = torch.tensor(values, device=self.device)
        table = here.new_zeros(self.size, len(values))
        table[self.rank] = here
        table = self.total(table)
        if bool((table != table[0]).any()):
            raise SharedError(f"the processes disagree on {what}: {table.tolist()} by rank; give all the same files")

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def world(accelerator: str) -> Iterator[World]:
    """The processes that torchrun describes in RANK, WORLD_SIZE and LOCAL_RANK; without these, this process alone.

    A block that ends without error or with a SharedError waits for the other processes: torchrun stops all of them as
    soon as one fails.

    Args:
        accelerator: cpu, gpu or auto; on GPUs a process takes the one of its LOCAL_RANK.

    Raises:
        GltError: no such accelerator, fewer GPUs than processes on this node, or WORLD_SIZE without the rest.
    """
    device, size = device_of(accelerator), int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device)
        return
    if missing := [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise GltError(f"WORLD_SIZE is {size}, but {', '.join(missing)} not set: start through torchrun, or unset it")
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise GltError(
                f"process {local} of this node has no GPU, there are {torch.cuda.device_count()}; "
                "lower torchrun's --nproc-per-node, or take --accelerator cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=EXCHANGE_TIMEOUT)
    here = World(device, dist.get_rank(), size)
    try:
        try:
            yield here
        except SharedError:
            here.wait()
            raise
        here.wait()
    finally:
        dist.destroy_process_group()


def partition(weights: Sequence[int], parts: int) -> list[list[int]]:
    """Split items into parts of about equal weight, greedily: the heaviest item first, to the lightest part.

    Args:
        weights: of each item, above 0; the weight of a clip is its number of frames.
        parts: number of parts; one is empty only if there are fewer items than parts.

    Returns:
        The indices of the items of each part, ascending.
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    loads = [0] * parts
    for index in sorted(range(len(weights)), key=lambda n: (-weights[n], n)):
        lightest = loads.index(min(loads))
        shares[lightest].append(index)
        loads[lightest] += weights[index]
    return [sorted(share) for share in shares]
