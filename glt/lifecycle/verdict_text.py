"""The gate's verdict as Markdown, for the page of a pipeline run."""

from __future__ import annotations

from glt.lifecycle.gate import Verdict
from glt.text import markdown_text

_LONGEST = 600  # characters of a reason


def markdown(verdict: Verdict) -> str:
    """The decision, its reason, the test with its numbers, and every check; names and messages cannot hold markup."""
    decision = "Promoted" if verdict.passed else "Already in service" if verdict.already else "Not promoted"
    lines = [f"# {decision}", "", markdown_text(verdict.reason, _LONGEST), ""]
    if not verdict.already:
        low, high = verdict.interval
        units = f"{verdict.subjects} subjects" if verdict.test == "subjects" else "clips"
        kind = "one-sided t-test on the gains of" if verdict.test == "subjects" else "exact one-sided McNemar test over"
        baseline = markdown_text(verdict.baseline)
        rows = {
            "clips compared": f"{verdict.clips}",
            "top-1 of the new model": f"{verdict.candidate_top1:.1%}",
            f"top-1 of the {baseline}": f"{verdict.reference_top1:.1%}",
            "only the new model right": f"{verdict.only_candidate}",
            f"only the {baseline} right": f"{verdict.only_reference}",
            "gain, 95 % interval": f"{low:+.1%} to {high:+.1%}",
            "test": f"{kind} {units}",
            "p-value": f"{verdict.p_value:.2g}, needed: below {verdict.alpha:g}",
            "earlier decisions on these clips": f"{verdict.comparisons}",
        }
        lines += ["| number | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items()), ""]
    lines += ["| check | passed | finding |", "| --- | --- | --- |"]
    for check in verdict.checks:
        passed = "yes" if check.passed else "**no**"
        lines.append(f"| {markdown_text(check.name)} | {passed} | {markdown_text(check.message, _LONGEST)} |")
    if verdict.answers_uri:
        lines += ["", f"The predictions of both models: {markdown_text(verdict.answers_uri)}"]
    return "\n".join(lines) + "\n"
