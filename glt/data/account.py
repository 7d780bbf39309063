"""The account of a set of recordings: every file that was seen is taken, rejected or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class UnreadFile:
    """A file that is not read, and the reason.

    Attributes:
        name: path below the recordings, clean text.
        check: one word that groups such files.
        reason: one sentence for people.
    """

    name: str
    check: str
    reason: str

    def row(self) -> dict[str, str]:
        """A row of the tables of rejected and left out files."""
        return {"source": self.name, "check": self.check, "reason": self.reason}


@dataclass(frozen=True)
class Account:
    """Counts of files.

    Attributes:
        taken: files that gave at least one clip.
        rejected: files that gave none, for a reason that somebody should look at.
        left_out: files that are not recordings (hidden, of another kind, sidecars, ...) or are no loss (repeats).
    """

    taken: int = 0
    rejected: int = 0
    left_out: int = 0

    @property
    def seen(self) -> int:
        """All files: loose ones and members of archives."""
        return self.taken + self.rejected + self.left_out

    def __add__(self, other: Account) -> Account:
        """The account of both."""
        return Account(self.taken + other.taken, self.rejected + other.rejected, self.left_out + other.left_out)

    def to_dict(self) -> dict[str, int]:
        """The counts as they are stored in manifests and ledgers; `seen` is among them."""
        return {"seen": self.seen, **asdict(self)}

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> Account:
        """The account that `to_dict` stored."""
        return cls(*(int(counts[name]) for name in ("taken", "rejected", "left_out")))

    def describe(self, left_out: Iterable[str] = ()) -> str:
        """The counts as one line, such as "seen 12: 10 taken, 1 rejected, 1 left out (1 nested in an archive)".

        Args:
            left_out: check of each file that was not read; all others that are left out count as `repeat`.
        """
        checks = list(left_out)
        counts = Counter([*checks, *["repeat"] * (self.left_out - len(checks))]).most_common()
        kinds = ", ".join(f"{count:,} {DESCRIPTIONS.get(check, check)}" for check, count in counts)
        line = f"seen {self.seen:,}: {self.taken:,} taken, {self.rejected:,} rejected, {self.left_out:,} left out"
        return f"{line} ({kinds})" if kinds else line


# Checks of files that are left out, as `Account.describe` names them.
DESCRIPTIONS = {
    "hidden": "hidden",
    "ending": "of another kind",
    "sidecar": "with labels or layout",
    "empty": "without a file",
    "archive": "of a kind of archive that is not read",
    "nested": "nested in an archive",
    "compressed": "compressed",
    "link": "links",
    "special": "no regular file",
    "name": "with names that are too long",
    "repeat": "repeated or on NTU's missing list",
}


def count_files(names: Sequence[str], taken: Collection[str], rejections: Iterable[tuple[str, bool]]) -> Account:
    """The account of files that were read.

    Args:
        names: the files.
        taken: those that gave a clip.
        rejections: source (a file, or ``file#recording``) of each rejection, and True if it is a loss.
    """
    known, lost = set(names), set()
    for source, loss in rejections:
        if loss:
            while source not in known and "#" in source:
                source = source.rpartition("#")[0]
            lost.add(source)
    good = known & set(taken)
    rejected = len((known & lost) - good)
    return Account(len(good), rejected, len(known) - len(good) - rejected)
