"""A listing of the landing bucket: its new objects, and their entries in the ledger and the quarantine."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from glt import settings
from glt.data import archives, delivery, segments
from glt.data.account import Account
from glt.data.delivery import InspectedFile
from glt.data.listing import visible
from glt.errors import GltError
from glt.lifecycle import ledger, quarantine
from glt.lifecycle.acceptance import Acceptance
from glt.lifecycle.ledger import Collected
from glt.lifecycle.sources import bucket, object_cache
from glt.lifecycle.sources.bucket import Object
from glt.lifecycle.sources.object_names import local_paths
from glt.recipe import DataConfig

UNFETCHED = "unfetched"  # check of an object that cannot be fetched; unlike others it is tried again at the next call


class Rejected(NamedTuple):
    """A rejected file: address of its copy (or else of the reason) in the quarantine, failed check, and reason."""

    address: str
    check: str
    reason: str


@dataclass(frozen=True)
class Landing:
    """A listing; the keys of its mappings are the objects' paths on this machine (`local_paths`).

    Attributes:
        address: ``s3://bucket/prefix``.
        data: the format and the checks.
        collected: the content of the project's ledgers.
        new: the objects to inspect.
        hidden: new objects that are hidden, so not recordings.
        sidecars: all sidecars, new or not.
        unfetched: keys of objects that an earlier call could not fetch either.
    """

    address: str
    data: DataConfig
    collected: Collected
    new: Mapping[str, Object]
    hidden: Mapping[str, Object]
    sidecars: Mapping[str, Object]
    unfetched: Collection[str]

    @classmethod
    def open(cls, root: Path, address: str, data: DataConfig) -> Landing:
        """List the landing, and compare it with the ledgers of a project and with the quarantine.

        An object is new if no ledger has its key and ETag, and the same reader and checks have not rejected it before.

        Raises:
            GltError: the bucket or DVC's remote cannot be read.
        """
        checks = _checks(data)
        listed = bucket.list_objects(address)
        paths = local_paths(one.name for one in listed)
        objects = {paths[one.name]: one for one in listed}
        collected = ledger.summarise(ledger.ledgers(root).values())
        sidecars = {path: one for path, one in objects.items() if visible(path) and delivery.is_sidecar(path, data)}
        seen = collected.objects | collected.left_out
        unknown = {
            path: one
            for path, one in objects.items()
            if path not in sidecars and (quarantine.object_address(address, one), one.etag) not in seen
        }
        # The current name of the file of reasons, and the former one.
        known = quarantine.find(address, unknown.values(), (f"rejected-{checks}.json", f"refused-{checks}.json"))
        new = {path: one for path, one in unknown.items() if visible(path) and one.key not in known}
        hidden = {path: one for path, one in unknown.items() if not visible(path)}
        unfetched = quarantine.find(address, new.values(), (f"{UNFETCHED}-{checks}.json",))
        return cls(address, data, collected, new, hidden, sidecars, unfetched)

    def fetch(self, view: Path) -> dict[str, str]:
        """Fetch the new objects and all sidecars into a folder; returns the reason for each path that is missing.

        A recording whose sidecar cannot be fetched is missing too, since it would lose its label.

        Raises:
            GltError: the store is unreachable or rejects the keys, or this machine cannot store the files.
        """
        wanted = {**self.sidecars, **self.new}
        cache = settings.home() / "landing"
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
        failed = {path: reason for path, one in wanted.items() if (reason := _too_large(path, one.size, free))}
        fetched = bucket.download(self.address, [one for path, one in wanted.items() if path not in failed], cache)
        failed |= {path: fetched.failed[one.key] for path, one in wanted.items() if one.key in fetched.failed}
        for sidecar in [path for path in self.sidecars if path in failed]:
            for path in self.new:
                if PurePosixPath(sidecar).parent in PurePosixPath(path).parents:
                    failed.setdefault(path, f"its {PurePosixPath(sidecar).name}: {failed[sidecar]}")
        files = {path: fetched.files[one.key] for path, one in wanted.items() if path not in failed}
        object_cache.arrange(view, files)
        return failed

    def late_sidecars(self) -> tuple[str, ...]:
        """Addresses of sidecars that are in no ledger in their present form, although recordings below them are."""
        late = []
        for sidecar in self.sidecars.values():
            location = quarantine.object_address(self.address, sidecar)
            below = f"{location.rpartition('/')[0]}/"
            if (location, sidecar.etag) not in self.collected.objects and any(
                name.startswith(below) and name != location for name, _ in self.collected.objects
            ):
                late.append(location)
        return tuple(late)

    def quarantine(self, rejected: Iterable[InspectedFile], view: Path) -> tuple[tuple[Rejected, ...], str]:
        """Copy the rejected files to the quarantine, with the reasons.

        Returns:
            The rejected files, and an error if the quarantine could not be written.
        """
        rows: list[Rejected] = []
        error = ""
        for inspected in rejected:
            one = self.new[inspected.name]
            try:
                rows += _quarantine(self.address, one, inspected, view, _checks(self.data))
            except GltError as failure:
                error = str(failure)
                location = quarantine.object_address(self.address, one)
                rows += [Rejected(location, row.check, row.reason) for row in inspected.rejected]
        return tuple(rows), error

    def account(self, acceptance: Acceptance, unfetched: Iterable[InspectedFile]) -> dict[str, int]:
        """The numbers of files seen, taken, rejected and left out: new objects, and the members of archives."""
        hidden_and_sidecars = len(self._left_out(acceptance)) - len(_repeated(acceptance))
        files = (one.account for one in (*acceptance.files, *unfetched))
        return sum(files, Account(left_out=hidden_and_sidecars)).to_dict()

    def ledger(
        self, acceptance: Acceptance, unfetched: Iterable[InspectedFile], sidecars: Iterable[str]
    ) -> dict[str, Any]:
        """The ledger of the batch."""
        objects = {one.name: one for one in acceptance.files if one.accepted}
        return {
            "format": self.data.format,
            "checks": _checks(self.data),
            "account": self.account(acceptance, unfetched),
            "skeleton": acceptance.skeleton,
            "names": acceptance.clips,
            "lost": acceptance.lost,
            "objects": {
                self._address(self.new[path]): {
                    **_version(self.new[path]),
                    "clips": one.clips,
                    "rejected": len(one.rejected),
                    **({} if path == self.new[path].name else {"file": path}),
                }
                for path, one in objects.items()
            },
            "rejected": {
                self._address(self.new[one.name]): {
                    **_version(self.new[one.name]),
                    "check": one.rejected[0].check,
                    "reason": one.rejected[0].reason,
                }
                for one in (*acceptance.files, *unfetched)
                if one.rejected and not one.accepted
            },
            "left_out": {
                self._address(one): {**_version(one), "check": check, "reason": reason}
                for one, check, reason in self._left_out(acceptance)
            },
            "sidecars": {self._address(self.sidecars[path]): _version(self.sidecars[path]) for path in sidecars},
        }

    def _left_out(self, acceptance: Acceptance) -> list[tuple[Object, str, str]]:
        """The new objects that are neither taken nor rejected, with check and reason."""
        hidden = [(one, "hidden", "hidden, or added by a system") for one in self.hidden.values()]
        seen = self.collected.objects | self.collected.left_out
        described = [
            (one, "sidecar", "describes recordings")
            for one in self.sidecars.values()
            if (self._address(one), one.etag) not in seen
        ]
        repeats = [
            (self.new[name], "repeat", "the same recordings as in another object or in data/")
            for name in _repeated(acceptance)
        ]
        return [*hidden, *described, *repeats]

    def _address(self, one: Object) -> str:
        return quarantine.object_address(self.address, one)


def _too_large(path: str, size: int, free: int) -> str:
    """The reason not to fetch an object of `size` bytes; empty if there is none."""
    rejection = None if archives.is_archive(path) else archives.too_large(path, size)
    if rejection is not None:
        return rejection.reason
    return f"{size:,} bytes, and {free:,} are free on the disk of GLT_HOME; free more" if size > free else ""


def _repeated(acceptance: Acceptance) -> list[str]:
    """The delivered files of which nothing is taken or rejected, because others repeat them."""
    repeats = {name for name, _ in acceptance.repeats}
    return [one.name for one in acceptance.files if one.name in repeats and not one.accepted and not one.rejected]


def _version(one: Object) -> dict[str, Any]:
    return {"etag": one.etag, "size": one.size}


def _checks(data: DataConfig) -> str:
    """A hash of the reader and all checks; when it changes, rejected objects are tried again."""
    return hashlib.sha256(segments.settings(data).encode()).hexdigest()[:8]


def _quarantine(address: str, delivered: Object, inspected: InspectedFile, view: Path, checks: str) -> list[Rejected]:
    """Copy the rejected files of an object to the quarantine, the JSON with the reasons last."""
    names = sorted({one.file for one in inspected.rejected})
    unfetched = any(one.check == UNFETCHED for one in inspected.rejected)
    copied: set[str] = set()
    error = ""

    def copies() -> Iterator[tuple[str, str, bytes | Path]]:
        if unfetched:
            return
        if names == [""]:
            yield "", PurePosixPath(inspected.name).name, view / inspected.name
        else:
            yield from ((name, name, content) for name, content in delivery.contents(inspected, names))

    try:
        for file, name, content in copies():
            quarantine.store(address, delivered, f"files/{quarantine.file_name(name)}", content)
            copied.add(file)
    except Exception as failure:  # the object is rejected even without its copy
        error = str(failure)
    reasons = {
        "object": quarantine.object_address(address, delivered),
        "etag": delivered.etag,
        "clips": inspected.clips,
        "rejected": [{"file": one.file, "check": one.check, "reason": one.reason} for one in inspected.rejected],
        **({"not_copied": error} if error else {}),
    }
    kind = UNFETCHED if unfetched else "partly" if inspected.accepted else "rejected"
    report = quarantine.store(
        address, delivered, f"{kind}-{checks}.json", (json.dumps(reasons, indent=1) + "\n").encode()
    )
    folder = report.rpartition("/")[0]
    return [
        Rejected(
            f"{folder}/files/{quarantine.file_name(one.file or PurePosixPath(inspected.name).name)}"
            if one.file in copied
            else report,
            one.check,
            one.reason,
        )
        for one in inspected.rejected
    ]
