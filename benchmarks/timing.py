"""Time functions in turn, by wall clock and CPU time, so that other load on the machine affects them alike."""

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
        """Wall-clock time of the fastest round, in seconds."""
        return min(self.wall)

    @property
    def spread(self) -> float:
        """Excess of the slowest round over the fastest, as a share of the fastest."""
        return max(self.wall) / min(self.wall) - 1

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return {"wall_s": [round(x, 6) for x in self.wall], "cpu_s": [round(x, 6) for x in self.cpu]}


def time_in_turn(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    reporter: Reporter,
    task: str,
    *,
    seconds: float = 5.0,
    warm: bool = True,
) -> dict[str, Timing]:
    """Time the functions in turn, in at least `rounds` rounds (up to 50 where they are short), after a warm-up.

    Args:
        functions: what to time, by name.
        rounds: at least.
        reporter: gets progress.
        task: its name there.
        seconds: for how long short functions are measured.
        warm: begin with an unmeasured round; without one there are exactly `rounds`.
    """
    if warm:
        started = time.perf_counter()
        for done, function in enumerate(functions.values()):
            reporter.progress(f"{task}, warm-up", done, len(functions))
            function()
        reporter.progress(f"{task}, warm-up", len(functions), len(functions))
        rounds = max(rounds, min(50, int(seconds / (time.perf_counter() - started))))
    times: dict[str, Timing] = {name: Timing([], []) for name in functions}
    for index in range(rounds):
        for position, (name, function) in enumerate(functions.items()):
            reporter.progress(task, index * len(functions) + position, rounds * len(functions), name)
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            times[name].cpu.append(time.process_time() - cpu)
            times[name].wall.append(time.perf_counter() - wall)
    reporter.progress(task, rounds * len(functions), rounds * len(functions))
    return times
