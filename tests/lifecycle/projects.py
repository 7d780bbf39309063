"""Real git repositories with DVC."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.data import recorded

RECORDINGS = {"a.skeleton": b"one", "deep/b.skeleton": b"two"}


def run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def dvc(folder: Path, *command: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", *command)


def commit(folder: Path, tag: str) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", tag)
    run(folder, "git", "tag", tag)


def make(folder: Path, url: str, recordings: Mapping[str, bytes], endpoint: str = "") -> Path:
    """A project whose revision v1, on branch main, pins recordings that DVC's remote at `url` has."""
    folder.mkdir()
    run(folder, "git", "init", "-q", "-b", "main")
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text(
        f"[core]\n    remote = storage\n    autostage = false\n['remote \"storage\"']\n    url = {url}\n"
        + (f"    endpointurl = {endpoint}\n" if endpoint else "")
    )
    (folder / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (folder / ".gitignore").write_text("/data/\n")
    recorded.write_folder(folder / "data", recordings)
    dvc(folder, "add", "-q", "data")
    dvc(folder, "push", "-q")
    commit(folder, "v1")
    return folder
