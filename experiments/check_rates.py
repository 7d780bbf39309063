"""Measure how often each check warns or rejects in a set of recordings, and the time of the checks per clip.

    python -m experiments.check_rates nw-ucla path/to/all_sqe.zip
    python -m experiments.check_rates sample data

A check that warns of many good recordings is noise; one that never does is no check. Prints a table and JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.hardware import commit
from glt.data.checks import accept
from glt.data.formats import FORMATS
from glt.data.listing import Names, list_recordings
from glt.data.recording import Recording, Rejection
from glt.recipe import load


def main() -> None:
    """Read, check, count."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("recipe")
    arguments.add_argument("recordings", type=Path)
    options = arguments.parse_args()
    data = load(options.recipe).data
    form = FORMATS[data.format]
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    seconds, accepted, rejected = 0.0, 0, 0
    for batch in list_recordings(options.recordings, Names(form.suffixes, form.sidecars)).batches:
        for chunk in batch.chunks(64):
            for name, content in chunk.files():
                for recording in _read(name, content, form.read, chunk.sidecars(name)):
                    started = time.perf_counter()
                    try:
                        texts = accept(recording, data).warnings
                        accepted += 1
                    except Rejection as rejection:
                        texts = (f"{rejection.check}: rejected, {rejection.reason}",)
                        rejected += 1
                    seconds += time.perf_counter() - started
                    for text in texts:
                        check = text.partition(":")[0]
                        counts[check] += 1
                        examples.setdefault(check, f"{name}: {text}")
    table = Table("check", "recordings", "share", "for example", title=f"{accepted} accepted, {rejected} rejected")
    for check, count in counts.most_common():
        table.add_row(check, str(count), f"{count / (accepted + rejected):.1%}", examples[check])
    Console(width=160).print(table)
    result = {"recordings": accepted + rejected, "rejected": rejected, "counts": dict(counts), "commit": commit()}
    print(json.dumps({**result, "ms_a_recording": round(1e3 * seconds / (accepted + rejected), 3)}))


def _read(name: str, content: object, read: object, sidecars: object) -> list[Recording]:
    if isinstance(content, Rejection):
        return []
    try:
        return [one for one in read(name, content, sidecars) if isinstance(one, Recording)]  # type: ignore[operator]
    except Rejection:
        return []


if __name__ == "__main__":
    main()
