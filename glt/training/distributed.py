"""The processes that train one model together: those torchrun started, or this one alone, which is a world of one.

Every process holds the whole model and takes a share of every batch. On CPUs they talk through gloo, on GPUs (one a
process) through NCCL. The GPU side has not been run: no GPU was at hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from glt.errors import GltError, SharedError
from glt.training.batches import device as device_of


@dataclass(frozen=True)
class World:
    """This process's place among those that train together.

    Attributes:
        device: where this process computes.
        rank: its number; 0 is the one that speaks, measures time and writes.
        size: how many there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that reports and writes."""
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
        """Which things of these weights are this process's, in their order; see `partition`."""
        return partition(weights, self.size)[self.rank]

    def agree(self, what: str, *values: int) -> None:
        """Go on if all processes hold the same values.

        Raises:
            SharedError: they do not.
        """
        here = torch.tensor(values, device=self.device)
        table = here.new_zeros(self.size, len(values))
        table[self.rank] = here
        table = self.total(table)
        if bool((table != table[0]).any()):
            raise SharedError(f"the processes disagree on {what}: {table.tolist()} by rank; give all the same files")

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def world(accelerator: str) -> Iterator[World]:
    """The world torchrun describes in RANK, WORLD_SIZE and LOCAL_RANK; without these a world of one.

    A block that ends well, or by a SharedError, ends when every process's does: torchrun stops all when one has failed.

    Args:
        accelerator: cpu, gpu or auto; a process on a GPU takes that of its LOCAL_RANK.

    Raises:
        GltError: no such accelerator, fewer GPUs than processes on this node, or WORLD_SIZE without the rest.
    """
    place, size = device_of(accelerator), int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(place)
        return
    if missing := [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise GltError(f"WORLD_SIZE is {size}, but {', '.join(missing)} not set: start through torchrun, or unset it")
    if place.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise GltError(
                f"process {local} of this node has no GPU, there are {torch.cuda.device_count()}; "
                "lower torchrun's --nproc-per-node, or take --accelerator cpu"
            )
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    here = World(place, dist.get_rank(), size)
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
    """Split things into parts of about equal weight: the heaviest first, each to the lightest part.

    Args:
        weights: of each thing, above 0; clips weigh their frames.
        parts: how many; one is empty only if there are fewer things than parts.

    Returns:
        The things' indices by part, ascending.
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    loads = [0] * parts
    for number in sorted(range(len(weights)), key=lambda n: (-weights[n], n)):
        lightest = loads.index(min(loads))
        shares[lightest].append(number)
        loads[lightest] += weights[number]
    return [sorted(share) for share in shares]
