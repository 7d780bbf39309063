"""The verdict as Markdown: readable, and no name or message is markup."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glt.lifecycle.gate import Check, Verdict
from glt.lifecycle.verdict_text import markdown

VERDICT = Verdict(
    True, False, "better by 2.5 %", "champion v3", 1200, 0.875, 0.85, 60, 30, 0.0123, 0.05, 4, (0.004, 0.046),
    (Check("better", True, "p 0.012"), Check("classes", False, "sit falls by 20 %")),
    test="subjects", subjects=10, answers_uri="runs:/0123/gate",
)  # fmt: skip


def test_it_says_what_was_decided_why_and_by_which_numbers() -> None:
    text = markdown(VERDICT)
    assert text.startswith("# Promoted\n\nbetter by 2.5 %\n\n")
    for row in (
        "| top-1 of the new model | 87.5% |",
        "| top-1 of the champion v3 | 85.0% |",
        "| gain, 95 % interval | +0.4% to +4.6% |",
        "| test | one-sided t-test on the gains of 10 subjects |",
        "| p-value | 0.012, needed: below 0.05 |",
        "| earlier decisions on these clips | 4 |",
        "| better | yes | p 0.012 |",
        "| classes | **no** | sit falls by 20 % |",
    ):
        assert row in text.splitlines()


@pytest.mark.parametrize(
    ("changes", "title"), [({"passed": False}, "# Not promoted"), ({"passed": False, "already": True}, "# Already in")]
)
def test_other_decisions(changes: dict[str, bool], title: str) -> None:
    text = markdown(replace(VERDICT, **changes))
    assert text.startswith(title)
    assert ("p-value" in text) == ("already" not in changes)


def test_names_and_messages_are_no_markup_and_bounded() -> None:
    odd = "<img src=x onerror=alert(1)> | [a](http://evil) \n# b\x1b[31m **c**" + "x" * 5000
    text = markdown(replace(VERDICT, reason=odd, baseline=odd, checks=(Check(odd, False, odd),), answers_uri=odd))
    assert not any(mark in text for mark in ("<img", "](", "http://", "\n# b", "\x1b", "**c"))
    assert len(text) < 6_000
    cells = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(cells) == {3, 4}
