"""Writes docs/faults.md: every tested fault, with promise and outcome.

    python -m docs.make.faults [--run [PYTEST ARGUMENTS] | --reports JUNIT.XML...]

A test of a fault is marked `@pytest.mark.fault("the fault", "the promise")`, one marker per fault. With `--run` these
tests are run first, the slower ones too, and their outcomes are recorded in results/faults.json. With `--reports` the
outcomes are those in reports that `pytest --junitxml` wrote at this commit.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.hardware import ROOT, commit

PAGE = ROOT / "docs" / "faults.md"
RECORD = ROOT / "results" / "faults.json"
REPORT = ROOT / "build" / "faults.xml"

# A fault belongs to the first area that lists a prefix of its test's path.
AREAS = {
    "Servers, connections and disks": ("tests/stack/", "tests/containers/"),
    "Recordings, archives and labels": ("tests/data/", "tests/benchmarks/", "tests/steps/"),
    "Buckets, DVC, git and collecting": (
        *("tests/lifecycle/sources/", "tests/lifecycle/test_collect", "tests/lifecycle/test_recordings"),
        *("tests/lifecycle/test_quarantine", "tests/lifecycle/test_repository", "tests/lifecycle/test_versions"),
        *("tests/lifecycle/test_credentials", "tests/lifecycle/test_dvc", "tests/lifecycle/test_s3"),
        *("tests/lifecycle/test_odd_deliveries", "tests/lifecycle/test_object"),
    ),
    "Tracking, registry and serving": ("tests/lifecycle/", "tests/serving/"),
    "Training": ("tests/training/", "tests/motion/", "tests/test_model"),
    "Artifacts and other files on disk": ("tests/test_artifact", "tests/test_nothing_lost", "tests/test_outputs"),
    "Commands, recipes and machines": ("tests/",),
}
HEAD = """# Tested faults

Damaged files, people's mistakes, and servers, processes, connections and disks that fail at the worst moment. Each row
is a fault, the behaviour that glt promises, and the outcome when its tests were last run, at the commit in brackets:
`holds` if all passed. `make fuzz` looks for faults that are not listed here.

The page is generated from markers of the tests ([how](extend.md#faults-and-fuzzing)): `make faults` runs the tests and
writes it, `python -m docs.make.faults` writes it without running them.
"""
TABLE = "| fault | promise | outcome | test |\n| --- | --- | --- | --- |\n"


class Fault(NamedTuple):
    """A fault, the promise, and the file and function of a test of it."""

    fault: str
    promise: str
    file: str
    test: str

    @property
    def test_id(self) -> str:
        """Key of the test in the record."""
        return f"{self.file}::{self.test}"


def collect(root: Path = ROOT) -> list[Fault]:
    """All faults that tests are marked with, read from their source.

    Raises ValueError if a marker is not on a test, or its arguments are not two strings (or constants of the module).
    """
    paths = sorted(root.glob("tests/**/test_*.py"))
    return [fault for path in paths for fault in _of_file(path, path.relative_to(root).as_posix())]


def _of_file(path: Path, name: str) -> Iterator[Fault]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        ast.unparse(node.targets[0]): str(ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    named = {
        ast.unparse(node.targets[0]): node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Constant)
    }
    held = set()
    for test in ast.walk(tree):
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
            decorators = [named.get(ast.unparse(decorator), decorator) for decorator in test.decorator_list]
            for mark in [mark for decorator in decorators for mark in _marks(decorator)]:
                held.add(mark)
                try:
                    fault, promise = (constants.get(ast.unparse(text)) or ast.literal_eval(text) for text in mark.args)
                except ValueError:
                    raise ValueError(f"{name}:{mark.lineno}: give fault() the fault and the promise as texts") from None
                yield Fault(str(fault), str(promise), name, test.name)
    for stray in set(_marks(tree)) - held:
        raise ValueError(f"{name}:{stray.lineno}: put the mark fault on the test itself, as a decorator")


def _marks(node: ast.AST) -> list[ast.Call]:
    return [
        call for call in ast.walk(node) if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault"
    ]


def page(faults: list[Fault], record: dict[str, dict[str, str]]) -> str:
    """The page, from the faults and the recorded outcome of each test."""
    rows: dict[str, dict[tuple[str, str], list[Fault]]] = {area: {} for area in AREAS}
    for fault in faults:
        area = next(area for area, beginnings in AREAS.items() if fault.file.startswith(beginnings))
        rows[area].setdefault((fault.fault, fault.promise), []).append(fault)
    parts = [HEAD]
    for area, found in rows.items():
        if found:
            parts.append(f"\n## {area}\n\n{TABLE}{''.join(_row(tests, record) for tests in found.values())}")
    return "".join(parts)


def _row(tests: list[Fault], record: dict[str, dict[str, str]]) -> str:
    known = [record.get(test.test_id, {}) for test in tests]
    outcomes = {f"{one['outcome']} (`{one['commit']}`)" if one else "not run yet" for one in known}
    words = ", ".join(sorted(outcomes))
    links = "; ".join(f"[{test.test.removeprefix('test_').replace('_', ' ')}](../{test.file})" for test in tests)
    cells = (text.replace("|", "\\|") for text in (tests[0].fault, tests[0].promise, words, links))
    return f"| {' | '.join(cells)} |\n"


def read_record() -> dict[str, dict[str, str]]:
    """Outcome and commit by test, as last run."""
    record: dict[str, dict[str, str]] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return record


def run(arguments: list[str]) -> Path:
    """Run the marked tests; returns pytest's report."""
    REPORT.unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", "pytest", "-m", "fault", f"--junitxml={REPORT}", *arguments], cwd=ROOT)
    return REPORT


def update_record(report: Path, at: str) -> None:
    """Take the outcomes of a run of pytest at a commit into the record."""
    outcomes: dict[str, set[str]] = {}
    for case in ET.parse(report).iter("testcase"):
        test_id = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name'].partition('[')[0]}"
        bad = case.find("failure") is not None or case.find("error") is not None
        outcomes.setdefault(test_id, set()).add(
            "failed" if bad else "not run: skipped" if case.find("skipped") is not None else "holds"
        )
    marked = {fault.test_id for fault in collect()}
    record = {test_id: outcome for test_id, outcome in read_record().items() if test_id in marked}
    for test_id in outcomes.keys() & marked:
        worst = min(outcomes[test_id])  # failed, holds, not run
        record[test_id] = {"outcome": worst, "commit": at}
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    how, given = sys.argv[1:2], sys.argv[2:]
    tested = commit()
    for made in [run(given)] if how == ["--run"] else map(Path, given if how == ["--reports"] else []):
        update_record(made, tested)
    PAGE.write_text(page(collect(), read_record()), encoding="utf-8")
