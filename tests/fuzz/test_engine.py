"""The fuzzer notices each kind of broken promise, makes the case small and gives it again; guards on planted faults."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz import campaign, promises
from tests.fuzz.campaign import Found
from tests.fuzz.outcome import Broken
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import Worker


class Planted:
    """A product that does what the case says."""

    name, seconds, mib, programs, weight = "planted", 1.0, 100.0, False, 1.0

    def prepare(self) -> None:
        pass

    def cases(self) -> Any:
        return st.tuples(st.just("count"), st.text(max_size=30))

    def check(self, case: tuple[str, str], sandbox: Path) -> None:
        what, text = case
        if what == "raise":
            raise ValueError(text)
        if what == "exit":
            raise SystemExit(3)
        if what == "hang":
            time.sleep(60)
        if what == "grow":
            bytearray(b"x" * (200 << 20))
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "write":
            Path(text).write_text("")
        if what == "delete":
            Path(text).unlink()
        if what == "start":
            subprocess.run(["true"], check=True)
        if what == "here":
            (sandbox / "file").write_text(text)
        if what == "count" and len(text) > 3:
            raise Broken("too long", text)


def test_each_kind_of_fault_has_its_name_and_the_next_case_runs(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("")
    expected = {
        ("raise", "x"): "exception ValueError",
        ("exit", ""): "exception SystemExit",
        ("hang", ""): "hangs",
        ("grow", ""): "memory",
        ("die", ""): "dies of signal -9",
        ("write", str(tmp_path / "new")): "outside: open",
        ("delete", str(mine)): "outside: os.remove",
        ("start", ""): "outside: starts",
        ("here", ""): "",
    }
    with Worker(Planted()) as worker:
        for case, fault in expected.items():
            outcome = worker.run(case)
            assert outcome.fault.startswith(fault), outcome
            assert bool(outcome.fault) == bool(fault)
            assert not worker.run(("count", "abc")).fault


def test_a_fault_is_made_small_and_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "STORE", tmp_path)
    result = campaign.run(Planted(), 20, seed=1, most=150)
    (found,) = result.found.values()
    assert found.fault == "too long"
    assert len(found.case[1]) == 4
    assert campaign.replay(Planted(), found.save("planted")).fault == "too long"


def test_the_same_seed_gives_the_same_cases() -> None:
    results = [campaign.run(Planted(), 20, seed=2, most=100) for _ in range(2)]
    assert results[0].found == results[1].found
    assert results[0].cases == results[1].cases


@pytest.mark.parametrize("counts", [(3, 1, 1, 0), (3, 1, 1, 2)])
def test_an_account_that_does_not_add_up_is_a_fault(counts: tuple[int, int, int, int]) -> None:
    account = dict(zip(("seen", "taken", "rejected", "left_out"), counts, strict=True))
    with pytest.raises(Broken, match="account"):
        promises.account({"account": account})


@pytest.mark.parametrize("said", ["", "two\nlines", "x" * 3000])
def test_a_message_that_nobody_can_read_is_a_fault(said: str) -> None:
    with pytest.raises(Broken, match="message"):
        promises.message(said)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_cases_are_literals(name: str) -> None:
    """What a target draws can be stored and read again."""
    import ast

    import hypothesis

    @hypothesis.settings(max_examples=10, database=None)
    @hypothesis.given(TARGETS[name].cases())
    def holds(case: Any) -> None:
        assert ast.literal_eval(repr(case)) == case
        assert Found("", "", case).case == case

    holds()
