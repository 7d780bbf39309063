"""The machine and the commit that a measurement belongs to."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]


def commit() -> str:
    """The commit of the source tree, `-dirty` if it has changes; those that measuring itself makes do not count.

    `unknown` in a copy of the tree without git.
    """
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results", ":!docs")
    return _git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def hardware(threads: int) -> dict[str, object]:
    """Processor, threads and torch build."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    return {"processor": processor, "cores": os.cpu_count(), "threads": threads, "torch": torch.__version__}
