"""Acceptance of a delivery into data/: files with which ingest of data/ would fail are rejected.

The accepted files are packed and ingested once; what ingest rejects or fails on is rejected before the commit.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glt import settings
from glt.data import ingest
from glt.data.account import Account
from glt.data.clips import ClipStore
from glt.data.delivery import InspectedFile, RejectedFile
from glt.data.machine import MachineFailure, is_machine_failure
from glt.errors import GltError, first_line
from glt.lifecycle.ledger import Collected
from glt.recipe import DataConfig, load
from glt.reporter import Silent

_CONFLICT = "data/ has a clip {} with other content: rename one of the two, or take the older one out of data/"
_HASH = 16  # digits of a content hash in a ledger
Pack = Callable[[Sequence[InspectedFile]], Path]  # writes the archive of accepted files


@dataclass
class Acceptance:
    """The outcome of `examine`.

    Attributes:
        files: the inspected files; more of them may be rejected than before.
        clips: hash of each clip's content by its name.
        lost: number of recordings in accepted files that ingest rejects.
        skeleton: the layout of the clips, as `Skeleton.to_dict`; None without clips.
        repeats: (delivered file, file in it) of files that repeat others of the delivery or in data/.
    """

    files: list[InspectedFile]
    clips: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    skeleton: dict[str, Any] | None = None
    repeats: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Trial:
    """The outcome of an ingest of a packed archive: clips (name and content hash) and rejections of each member."""

    clips: dict[str, list[tuple[str, str]]]
    rejected: dict[str, list[RejectedFile]]
    skeleton: dict[str, Any]


def examine(files: Iterable[InspectedFile], collected: Collected, data: DataConfig, pack: Pack) -> Acceptance:
    """Reject the files with which ingest of data/ would fail.

    Args:
        files: the inspected files of a delivery.
        collected: the content of the ledgers in data/.
        data: the format and the checks.
        pack: packs accepted files into one archive, as it will be in data/.

    Raises:
        GltError: a failure of the machine.
    """
    files = _of_one_layout(list(files), collected.skeleton)
    trial = _Trial({}, {}, {})
    while accepted := [one for one in files if one.accepted]:
        trial, failed = _try(accepted, data, pack)
        lost = {
            (one.name, file): rows[0]
            for one in accepted
            for file in one.accepted
            if (rows := trial.rejected.get(_member(one, file))) and _member(one, file) not in trial.clips
        }
        files = [_without(failed.get(one.name, one), lost) for one in files]
        if not failed and not lost:
            break
    else:
        return Acceptance(files)
    conflicts, repeats = _already_collected(files, trial, collected)
    files = [_without(one, conflicts) for one in files]
    if over := _over_limit(files, trial, collected, data):
        files = [_without(one, over) for one in files]
    repeats |= {(one.name, file) for one in files for file in one.accepted if _member(one, file) not in trial.clips}
    files = [_leave_out(one, {file for file in one.accepted if (one.name, file) in repeats}) for one in files]
    members = {_member(one, file) for one in files for file in one.accepted}
    losses = sum(len(_losses(trial, member, collected)) for member in members)
    clips = {name: content for member in sorted(members) for name, content in trial.clips.get(member, ())}
    files = [
        replace(one, clips=sum(len(trial.clips.get(_member(one, file), ())) for file in one.accepted))
        if one.accepted
        else one
        for one in files
    ]
    return Acceptance(files, clips, losses, trial.skeleton if members else None, tuple(sorted(repeats)))


def reject(name: str, check: str, reason: str) -> InspectedFile:
    """A delivered file, rejected as a whole."""
    return InspectedFile(name, (), (), 0, (RejectedFile("", check, reason),), None, account=Account(rejected=1))


def _of_one_layout(files: list[InspectedFile], project: dict[str, Any] | None) -> list[InspectedFile]:
    """Reject the files whose layout is not the project's; without one, that of most files of the delivery."""
    layouts = {
        (one.name, file): json.dumps(one.layouts[file].to_dict(), sort_keys=True)
        for one in files
        for file in one.accepted
        if file in one.layouts
    }
    if not layouts:
        return files
    common = json.dumps(project, sort_keys=True) if project else Counter(layouts.values()).most_common(1)[0][0]
    name = json.loads(common)["name"]
    other = {
        key: RejectedFile(
            "",
            "layout",
            f"layout differs from the project's: {json.loads(layout)['name']}, not {name}, or other joints, axes, unit "
            "or rate; set data.layout to one that both can be mapped to, or collect it into a separate project",
        )
        for key, layout in layouts.items()
        if layout != common
    }
    return [_without(one, other) for one in files] if other else files


def _try(accepted: list[InspectedFile], data: DataConfig, pack: Pack) -> tuple[_Trial, dict[str, InspectedFile]]:
    """Ingest the archive of accepted files; returns the outcome, and by name the rejected files that it fails on."""
    try:
        return _ingest(pack(accepted), accepted, data), {}
    except MachineFailure:
        raise
    except Exception as error:
        if is_machine_failure(error) or isinstance(error, MemoryError):
            raise GltError(f"{settings.home()}: {first_line(error)}; free space on the disk, then run again") from error
        reason = first_line(error)
    if len(accepted) == 1:
        return _Trial({}, {}, {}), {
            accepted[0].name: reject(accepted[0].name, "ingest", f"ingest fails on it: {reason}")
        }
    half = len(accepted) // 2
    failed: dict[str, InspectedFile] = {}
    for part in (accepted[:half], accepted[half:]):
        failed |= _try(part, data, pack)[1]
    if not failed:  # each half can be ingested, both cannot: the later half is not taken
        failed = {
            one.name: reject(one.name, "ingest", f"ingest fails on it together with the others: {reason}")
            for one in accepted[half:]
        }
    return _Trial({}, {}, {}), failed


def _ingest(archive: Path, accepted: Iterable[InspectedFile], data: DataConfig) -> _Trial:
    """Ingest an archive, however much is rejected; the segments stay in the cache, for the ingest of data/ here."""
    recipe = load("sample").model_copy(update={"data": data.model_copy(update={"max_rejects": 1.0})})
    with tempfile.TemporaryDirectory(prefix="glt-collect-") as folder:
        out = Path(folder) / "clips"
        ingest.ingest(archive, recipe, out, {}, Silent(), settings.home() / "segments")
        store = ClipStore(out, verify=False)
        members = {_member(one, file) for one in accepted for file in one.accepted}
        clips: dict[str, list[tuple[str, str]]] = {}
        for name, source, content in store.index[["name", "source", "sha256"]].itertuples(index=False):
            clips.setdefault(source, []).append((name, content[:_HASH]))
        rejected: dict[str, list[RejectedFile]] = {}
        for source, check, reason in store.rejected[["source", "check", "reason"]].itertuples(index=False):
            member = source if source in members else source.partition("#")[0]
            if check not in ingest.NO_LOSS:
                rejected.setdefault(member, []).append(RejectedFile("", check, reason))
        return _Trial(clips, rejected, store.skeleton.to_dict())


def _already_collected(
    files: Iterable[InspectedFile], trial: _Trial, collected: Collected
) -> tuple[dict[tuple[str, str], RejectedFile], set[tuple[str, str]]]:
    """The files of which ingest of data/ would take nothing, since data/ has clips of all their names.

    Returns:
        Those with other content than data/ has, and those that repeat it.
    """
    conflicts: dict[tuple[str, str], RejectedFile] = {}
    repeats: set[tuple[str, str]] = set()
    for key, member in (
        (key, _member(one, file)) for one in files for file in one.accepted for key in [(one.name, file)]
    ):
        clips = trial.clips.get(member, [])
        if clips and all(name in collected.clips for name, _ in clips):
            others = [name for name, content in clips if collected.clips[name] != content]
            if others:
                conflicts[key] = RejectedFile("", "duplicate", _CONFLICT.format(others[0]))
            else:
                repeats.add(key)
    return conflicts, repeats


def _over_limit(
    files: Iterable[InspectedFile], trial: _Trial, collected: Collected, data: DataConfig
) -> dict[tuple[str, str], RejectedFile]:
    """The files to reject so that data/ has no more rejected recordings than `data.max_rejects` allows."""
    keys = {(one.name, file): _member(one, file) for one in files for file in one.accepted}
    losses = {key: _losses(trial, member, collected) for key, member in keys.items()}
    counts = {key: len(trial.clips.get(member, ())) for key, member in keys.items()}
    lost, clips = collected.lost + sum(map(len, losses.values())), collected.count + sum(counts.values())
    over: dict[tuple[str, str], RejectedFile] = {}
    worst = sorted(keys, key=lambda key: (-len(losses[key]) / (counts[key] + len(losses[key]) or 1), key))
    for key in worst:
        if lost < ingest.LEAST_REJECTS or lost <= data.max_rejects * (clips + lost) or not losses[key]:
            break
        first = losses[key][0]
        over[key] = RejectedFile(
            "",
            "max-rejects",
            f"{len(losses[key])} of its {counts[key]} recordings are rejected ({first.check}: {first.reason}); "
            "with it data/ would hold more rejected recordings than data.max_rejects allows",
        )
        lost, clips = lost - len(losses[key]), clips - counts[key]
    return over


def _losses(trial: _Trial, member: str, collected: Collected) -> list[RejectedFile]:
    """Rejections of a file by ingest of data/: recordings, and clips whose name data/ has with other content."""
    return [
        *trial.rejected.get(member, ()),
        *(
            RejectedFile("", "duplicate", _CONFLICT.format(name))
            for name, content in trial.clips.get(member, ())
            if collected.clips.get(name, content) != content
        ),
    ]


def _member(inspected: InspectedFile, file: str) -> str:
    """The name in the batch's archive of a file that was delivered loose or in an archive."""
    return inspected.name if inspected.is_loose else f"{inspected.name}/{file}"


def _without(inspected: InspectedFile, rejections: dict[tuple[str, str], RejectedFile]) -> InspectedFile:
    """The delivered file without those of its files that have a rejection, by (delivered file, file)."""
    out = {
        file: rejections[inspected.name, file] for file in inspected.accepted if (inspected.name, file) in rejections
    }
    if not out:
        return inspected
    if inspected.is_loose:
        ((_, rejection),) = out.items()
        return reject(inspected.name, rejection.check, rejection.reason)
    kept = tuple(file for file in inspected.accepted if file not in out)
    rows = tuple(RejectedFile(file, one.check, one.reason) for file, one in out.items())
    return replace(
        inspected, accepted=kept, clips=inspected.clips if kept else 0, rejected=(*inspected.rejected, *rows)
    )


def _leave_out(inspected: InspectedFile, repeats: set[str]) -> InspectedFile:
    """The delivered file without those of its files that repeat others."""
    kept = tuple(file for file in inspected.accepted if file not in repeats)
    account = inspected.account + Account(taken=-len(repeats), left_out=len(repeats))
    return replace(inspected, accepted=kept, account=account)
