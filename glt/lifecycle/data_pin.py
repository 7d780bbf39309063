"""The file data.dvc, by which DVC pins the recordings in the folder data/."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from glt.errors import GltError, first_line

DATA, PIN = "data", "data.dvc"


@dataclass(frozen=True)
class DataPin:
    """The content of a data.dvc.

    Attributes:
        md5: DVC's hash of the recordings.
        size: of all files together, in bytes.
        files: how many there are.
    """

    md5: str
    size: int
    files: int


def parse(text: str | bytes, origin: str) -> DataPin:
    """Read the content of a data.dvc; `origin` names it in errors.

    Raises:
        GltError: it is not such a file.
    """
    try:
        out = yaml.safe_load(text)["outs"][0]
        return DataPin(str(out["md5"]), int(out["size"]), int(out.get("nfiles", 1)))
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise GltError(f"{origin}: not a file that `dvc add data` wrote ({reason}); restore it with git") from error
