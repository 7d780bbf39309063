"""The ledger beside each collected batch: the delivered objects that it was made from, and the account of the delivery.

A ledger is ``.<batch>.json`` in data/, pinned by data.dvc together with the batch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from glt.data.layouts import Skeleton
from glt.errors import GltError, first_line
from glt.lifecycle import recordings
from glt.lifecycle.data_pin import DATA, PIN

BATCH = r"\d{4}-\d{2}-\d{2}-[0-9a-f]{8}"
_LEDGER = re.compile(rf"\.({BATCH})\.json")


@dataclass
class Collected:
    """The content of all ledgers.

    Attributes:
        objects: address and ETag of every object and sidecar that is in data/.
        left_out: address and ETag of every object that was left out.
        clips: hash of each clip's content by its name.
        count: number of clips.
        lost: number of recordings in data/ that ingest rejects.
        skeleton: the layout of the clips, as `Skeleton.to_dict`; None if no ledger has it.
    """

    objects: set[tuple[str, str]] = field(default_factory=set)
    left_out: set[tuple[str, str]] = field(default_factory=set)
    clips: dict[str, str] = field(default_factory=dict)
    count: int = 0
    lost: int = 0
    skeleton: dict[str, Any] | None = None


def ledgers(root: Path, revision: str | None = None) -> dict[str, dict[str, Any]]:
    """The ledger of each collected batch by the name of its archive, the oldest first.

    Args:
        root: a git repository with DVC.
        revision: the commit whose data.dvc is read; the working tree's if not given.

    Raises:
        GltError: DVC's remote, which stores the ledgers, is not available, or a ledger is damaged.
    """
    pinned = recordings.pinned_files(root, revision)
    names = {f"{match[1]}.zip": name for name in sorted(pinned) if (match := _LEDGER.fullmatch(name)) is not None}
    contents = recordings.contents(root, {name: pinned[name] for name in names.values()}, revision)
    return {batch: _parse(contents[name], f"{DATA}/{name}") for batch, name in names.items()}


class _Version(BaseModel):
    etag: str


class _Taken(_Version):
    clips: int


class _Ledger(BaseModel):
    """The fields of a ledger that are read; those of earlier versions lack names, layout and losses."""

    objects: dict[str, _Taken]
    sidecars: dict[str, _Version] = {}
    left_out: dict[str, _Version] = {}
    names: dict[str, str] = {}
    lost: int = 0
    skeleton: dict[str, Any] | None = None


def _parse(content: bytes, file: str) -> dict[str, Any]:
    try:
        ledger: dict[str, Any] = json.loads(content)
        read = _Ledger.model_validate(ledger, strict=True)
        if read.skeleton is not None:
            Skeleton.from_dict(read.skeleton)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else first_line(error)
        raise GltError(
            f"{file}: the ledger of a batch, and damaged ({reason}); restore the {PIN} of an earlier commit"
        ) from error
    return ledger


def summarise(entries: Iterable[Mapping[str, Any]]) -> Collected:
    """The content of ledgers, the oldest first; those of earlier versions lack names, layout and losses."""
    collected = Collected()
    for ledger in entries:
        for part, known in (
            ("objects", collected.objects),
            ("sidecars", collected.objects),
            ("left_out", collected.left_out),
        ):
            known.update((address, entry["etag"]) for address, entry in ledger.get(part, {}).items())
        for name, content in ledger.get("names", {}).items():
            collected.clips.setdefault(name, content)
        collected.count += sum(entry["clips"] for entry in ledger["objects"].values())
        collected.lost += ledger.get("lost", 0)
        collected.skeleton = ledger.get("skeleton") or collected.skeleton
    return collected
