"""A target's cases from hypothesis for some seconds; each new fault is made small, stored and reported once."""

from __future__ import annotations

import ast
import hashlib
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
from hypothesis import HealthCheck, Phase, settings

from tests.fuzz.outcome import ROOT, Outcome
from tests.fuzz.worker import Target, Worker

STORE = ROOT / "build" / "fuzz"
_ROUND = 200  # cases
_SHRINK = 15.0  # seconds to make a fault small
_SETTINGS = settings(
    max_examples=_ROUND,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    derandomize=False,
)


class _Failed(Exception):
    """For hypothesis: this case breaks an invariant."""


def _fail() -> NoReturn:
    """Raise at one place: hypothesis takes another line for another fault."""
    raise _Failed


@dataclass
class Found:
    """A fault with the smallest case that has it."""

    fault: str
    detail: str
    case: Any

    def save(self, target: str) -> Path:
        """Write the case as a Python literal that `replay` reads."""
        content = repr(self.case)
        name = f"{target}-{hashlib.sha256(self.fault.encode()).hexdigest()[:8]}.txt"
        path = STORE / "failures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path


@dataclass
class Result:
    """A target's cases in numbers, and the faults found, by name."""

    target: str
    cases: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    mib: float = 0.0
    found: dict[str, Found] = field(default_factory=dict)
    coverage: int | None = None

    def count(self, outcome: Outcome) -> None:
        """Add a case."""
        self.cases += 1
        self.slowest, self.mib = max(self.slowest, outcome.seconds), max(self.mib, outcome.mib)


def run(target: Target, seconds: float, seed: int, most: int | None = None) -> Result:
    """Run a target's cases, at most so many, for so many seconds."""
    result = Result(target.name)
    started = time.monotonic()
    with Worker(target) as worker:
        begun, number = time.monotonic(), 0  # without the imports
        while time.monotonic() - begun < seconds and (most is None or result.cases < most):
            _round(target, worker, result, begun + seconds, seed * 1_000_003 + number)
            number += 1
    result.seconds = time.monotonic() - started
    return result


def _round(target: Target, worker: Worker, result: Result, end: float, seed: int) -> None:
    failing: list[Found] = []  # the fault that is being made small
    until = [0.0]

    def body(case: Any) -> None:
        if failing and (time.monotonic() > until[0] or failing[0].case == case):
            if failing[0].case == case:
                _fail()
            return
        if not failing and time.monotonic() > end:
            return
        outcome = worker.run(case)
        result.count(outcome)
        if not outcome.fault or (outcome.fault in result.found and not (failing and failing[0].fault == outcome.fault)):
            return
        if not failing:
            result.found[outcome.fault] = found = Found(outcome.fault, outcome.detail, case)
            failing.append(found)
            until[0] = time.monotonic() + _SHRINK
            _fail()
        if outcome.fault == failing[0].fault:
            if len(repr(case)) <= len(repr(failing[0].case)):
                failing[0].case, failing[0].detail = case, outcome.detail
            _fail()
        result.found[outcome.fault] = Found(outcome.fault, outcome.detail, case)

    warnings.simplefilter("ignore", hypothesis.errors.HypothesisWarning)  # of long cases
    test = hypothesis.seed(seed)(_SETTINGS(hypothesis.given(target.cases())(body)))
    try:
        test()
    except (_Failed, hypothesis.errors.Flaky):  # the time to make it small was over
        pass
    except hypothesis.errors.HypothesisException:
        if not failing:
            raise


def replay(target: Target, path: Path) -> Outcome:
    """Run a stored case again."""
    with Worker(target) as worker:
        return worker.run(ast.literal_eval(path.read_text(encoding="utf-8")))
