"""The card of a model in Markdown: intended use, classes, data and its leak, scores, the gate's decision, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from glt import artifact
from glt.analysis.page import percent
from glt.analysis.scores import Score, per_class, score
from glt.text import markdown_text

LONGEST = 5000  # characters that MLflow takes as the description of a version or a registered model
_ROWS = (200, 60, 30, 15, 8, 4, 0)  # of a table; fewer until the card is short enough
_GROUPS = {"subject": "Subject", "camera": "Camera"}  # columns of the predictions
_BASELINES = {"knn/top1": "Nearest neighbour", "probe/untrained_top1": "Untrained encoder"}


def model_card(
    classifier: Path,
    name: str,
    verdict: Mapping[str, Any] | None = None,
    facts: Mapping[str, str] | None = None,
    longest: int | None = None,
) -> str:
    """The card of a ``classifier`` artifact. Names from outside are escaped.

    Args:
        classifier: folder of the artifact.
        name: of the registered model.
        verdict: `glt.lifecycle.gate.Verdict.to_dict()`; none if the gate did not see this model.
        facts: title -> text about its origin (recordings, code, ...).
        longest: characters; tables lose rows, the best classes and groups first, until the card is that short.
    """
    config = artifact.read_json(classifier / "config.json", dict)
    metrics = artifact.read_json(classifier / "metrics.json", dict)
    with artifact.reading(classifier / "predictions.parquet"):
        predictions = pd.read_parquet(classifier / "predictions.parquet")
    card = ""
    with artifact.reading(classifier / "config.json"):
        for rows in _ROWS:
            parts = (
                _use(name, config),
                _classes(config, rows),
                _data(config, predictions, facts or {}),
                _scores(metrics, predictions),
                *_groups(predictions, rows),
                _gate(verdict),
                _limits(predictions),
            )
            card = "\n\n".join(part for part in parts if part) + "\n"
            if longest is None or len(card) <= longest:
                return card
    return card[: longest or 0].rpartition("\n")[0]


def _use(name: str, config: Mapping[str, Any]) -> str:
    skeleton, encoder = config.get("skeleton", {}), config.get("encoder", {})
    joints = len(skeleton.get("joints", ()))
    layout = f"{joints} joints of the layout {markdown_text(str(skeleton.get('name', 'unknown')))}"
    rate = f", recorded at about {skeleton['rate']:g} frames a second" if "rate" in skeleton else ""
    unit = f" in {markdown_text(str(skeleton['unit']))}" if "unit" in skeleton else ""
    persons = encoder.get("persons", 1)
    people = "one person" if persons == 1 else f"1 to {persons} persons"
    return (
        f"# {markdown_text(name)}\n\n"
        f"Recognises which of {len(config.get('classes', ()))} actions people perform, from the positions of their "
        "joints. A GL-Transformer that was pretrained without labels, with a linear classifier.\n\n"
        "## Intended use\n\n"
        f"- Input: clips of {people}, {layout}{unit}{rate}.\n"
        "- Output: one label per clip, and its probability by the model, which is not calibrated.\n"
        "- For sorting and searching recordings like those it was trained on. Not for decisions about a person without "
        "somebody who looks at the recording, and not for telling who a person is."
    )


def _classes(config: Mapping[str, Any], rows: int) -> str:
    names = [markdown_text(str(name), 60) for name in config.get("classes", ())]
    more = f", and {len(names) - rows} more" if len(names) > rows else ""
    return f"## Classes\n\n{len(names)}: {', '.join(names[:rows])}{more}"


def _data(config: Mapping[str, Any], predictions: pd.DataFrame, facts: Mapping[str, str]) -> str:
    data = config.get("recipe", {}).get("data", {})
    dataset, protocol = (markdown_text(str(data.get(key, "unknown"))) for key in ("dataset", "protocol"))
    lines = [f"Recordings: {dataset}, protocol {protocol}. Tested on {len(predictions)} clips."]
    leaked = int((~predictions["clean"]).sum()) if "clean" in predictions else 0
    if leaked:
        lines.append(
            f"**Leak:** {leaked} of the {len(predictions)} test clips equal a training clip, bit for bit. “Clean” "
            "leaves them out and is the score to trust; “all” compares with published figures."
        )
    else:
        lines.append("No test clip equals a training clip.")
    lines += [f"- {title}: {markdown_text(text)}" for title, text in facts.items()]
    return "## Data\n\n" + "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])


def _scores(metrics: Mapping[str, float], predictions: pd.DataFrame) -> str:
    total = len(predictions)
    has_leak = "clean" in predictions and not predictions["clean"].all()
    clean = int(predictions["clean"].sum()) if "clean" in predictions else total
    rows = [("This model", score(predictions), score(predictions, clean=True) if has_leak else None)]
    for key, title in _BASELINES.items():
        if key in metrics:
            cleaned = Score.of(metrics.get(f"{key}_clean", float("nan")), clean) if has_leak and clean else None
            rows.append((title, Score.of(metrics[key], total), cleaned))
    header = ["Top-1 accuracy", "All", *(["Clean"] if has_leak else [])]
    lines = [[title, _interval(one), *([_interval(two)] if has_leak else [])] for title, one, two in rows]
    text = f"## Scores\n\nWith Wilson 95 % intervals.\n\n{_table(header, lines)}"
    if "probe/val_top1" in metrics:
        share = percent(metrics["probe/val_top1"])
        text += (
            "\n\nValidation (training clips, each predicted by a classifier fitted without its subject, camera or "
            f"setup): {share}."
        )
    return text


def _groups(predictions: pd.DataFrame, rows: int) -> Iterator[str]:
    """Tables by class, subject and camera, the weakest first."""
    classes = [
        (str(row["label"]), Score(row["right"], row["total"])) for row in per_class(predictions).to_dict("records")
    ]
    yield _ranking("Class", classes, rows)
    for column, title in _GROUPS.items():
        if column not in predictions or predictions[column].nunique() < 2:
            continue
        groups = [(str(group), score(clips)) for group, clips in predictions.groupby(column, sort=True)]
        yield _ranking(title, sorted(groups, key=lambda group: group[1].share), rows)


def _ranking(title: str, groups: Sequence[tuple[str, Score]], rows: int) -> str:
    if not rows or not groups:
        return ""
    lines = [[markdown_text(name, 60), _interval(one), f"{one.right} of {one.total}"] for name, one in groups[:rows]]
    more = f"\n\nThe weakest {rows} of {len(groups)}." if len(groups) > rows else ""
    return f"### By {title.lower()}\n\n{_table([title, 'Accuracy', 'Clips'], lines)}{more}"


def _gate(verdict: Mapping[str, Any] | None) -> str:
    if verdict is None:
        return ""
    decision = "Already in service" if verdict["already"] else "Passed" if verdict["passed"] else "Not passed"
    checks = [
        f"- {markdown_text(str(check['name']))}: {'yes' if check['passed'] else '**no**'}, "
        f"{markdown_text(str(check['message']), 300)}"
        for check in verdict["checks"]
    ]
    return "\n".join([f"## Gate\n\n{decision}: {markdown_text(str(verdict['reason']), 1000)}\n", *checks]).strip()


def _limits(predictions: pd.DataFrame) -> str:
    groups = [
        f"{predictions[column].nunique()} {column}{'s' if predictions[column].nunique() > 1 else ''}"
        for column in _GROUPS
        if column in predictions and predictions[column].notna().any()
    ]
    tested = f"The test clips show {' and '.join(groups)}. " if groups else ""
    return (
        "## Limits\n\n"
        "- It gives one of its classes for every clip, also for an action that is none of them.\n"
        f"- {tested}The intervals cover the limited number of test clips only, not other people, "
        "cameras, rooms or another seed of the training."
    )


def _interval(one: Score | None) -> str:
    if one is None or not one.total:
        return "–"
    low, high = one.interval
    return f"{percent(one.share)} ({100 * low:.1f} – {100 * high:.1f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(
        [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}", *(f"| {' | '.join(row)} |" for row in rows)]
    )
