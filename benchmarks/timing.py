"""Wall and CPU time of works that take turns, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from glt.reporter import Reporter


@dataclass(frozen=True)
class Timing:
    """Seconds of every round, on the wall and of all threads' CPU time."""

    wall: list[float]
    cpu: list[float]

    @property
    def best(self) -> float:
        """The quickest round: the one least disturbed."""
        return min(self.wall)

    @property
    def spread(self) -> float:
        """How much longer the slowest round took, as a share of the quickest."""
        return max(self.wall) / min(self.wall) - 1

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return {"wall_s": [round(x, 6) for x in self.wall], "cpu_s": [round(x, 6) for x in self.cpu]}


def interleaved(
    works: Mapping[str, Callable[[], object]],
    rounds: int,
    reporter: Reporter,
    task: str,
    *,
    seconds: float = 5.0,
    warm: bool = True,
) -> dict[str, Timing]:
    """Time the works in turn: each once unmeasured (if `warm`), then `rounds` rounds, of short works up to 50 more.

    Args:
        works: what to time, by name.
        rounds: at least.
        reporter: gets progress.
        task: its name there.
        seconds: short works are measured this long.
        warm: whether to begin with an unmeasured round; without one, `rounds` is exact.
    """
    if warm:
        started = time.perf_counter()
        for done, work in enumerate(works.values()):
            reporter.progress(f"{task}, warm-up", done, len(works))
            work()
        reporter.progress(f"{task}, warm-up", len(works), len(works))
        rounds = max(rounds, min(50, int(seconds / (time.perf_counter() - started))))
    times: dict[str, Timing] = {name: Timing([], []) for name in works}
    for number in range(rounds):
        for place, (name, work) in enumerate(works.items()):
            reporter.progress(task, number * len(works) + place, rounds * len(works), name)
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            times[name].cpu.append(time.process_time() - cpu)
            times[name].wall.append(time.perf_counter() - wall)
    reporter.progress(task, rounds * len(works), rounds * len(works))
    return times
