"""The version of the code that a run executes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import glt
from glt import artifact, settings

_PACKAGES = ("glt", "components", "pipelines")
SUFFIXES = {".py", ".yaml", ".html", ".txt"}


def current_code_version() -> str:
    """12 hex digits of a hash over the source files, so that uncommitted changes count.

    GLT_CODE_VERSION overrides it.
    """
    if version := settings.code_version():
        return version
    root, state = Path(glt.__file__).parents[1], hashlib.sha256()
    for package in _PACKAGES:
        for file in sorted(path for path in (root / package).rglob("*") if path.suffix in SUFFIXES):
            state.update(f"{file.relative_to(root).as_posix()}\0{artifact.file_sha256(file)}\n".encode())
    return state.hexdigest()[:12]
