"""Coverage-guided cases by atheris, where it is installed: raw bytes for the readers, archives and recipes."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fuzz import campaign, recordings
from tests.fuzz.campaign import Found, Result
from tests.fuzz.outcome import ROOT

# By target: the case of some bytes, and valid bytes to begin with.
TARGETS: dict[str, Any] = {
    **{
        f"read {kind}": lambda raw, name=name: (name.encode(), raw, recordings.SKELETON, recordings.LABELS)
        for kind, (name, _) in recordings.NAMES.items()
    },
    "archives": lambda raw: ("a.zip" if raw[:2] == b"PK" else "a.tar", raw),
    "recipes": lambda raw: ("text", raw),
    "layouts": lambda raw: raw,
}
_DONE = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+)")


def available() -> bool:
    """True if atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def run(name: str, seconds: float, seed: int, result: Result) -> None:
    """Fuzz a target in a process of its own; what is found is added to the result."""
    corpus = campaign.STORE / "corpus" / name.replace(" ", "_")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(_seeds(name)):
        (corpus / f"seed-{number}").write_bytes(content)
    with tempfile.TemporaryDirectory() as folder:
        limits = [
            f"-max_total_time={max(1, int(seconds))}",
            f"-seed={seed % 2**31 or 1}",
            "-rss_limit_mb=3000",
            "-timeout=20",
        ]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.fuzz.guided",
                name,
                repr(sorted(result.found)),
                str(corpus),
                f"-artifact_prefix={folder}/",
                *limits,
            ],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": folder},
            capture_output=True,
            text=True,
            errors="replace",
        )
        found = _DONE.findall(done.stderr)
        if found:
            result.cases += max(int(count) for count, _ in found)
            result.coverage = int(found[-1][1])
        elif "FAULT" not in done.stderr:
            raise RuntimeError(f"atheris ended with {done.returncode}:\n{done.stderr[-2000:]}")
        result.seconds += seconds
        for crash in Path(folder).glob("*-*"):
            if crash.is_file() and crash.name.startswith(("crash-", "timeout-", "oom-")):
                raw = crash.read_bytes()
                said = re.search(r"^FAULT (.*)$", done.stderr, re.MULTILINE)
                fault, detail = (
                    ast.literal_eval(said[1]) if said else (crash.name.partition("-")[0], done.stderr[-300:])
                )
                result.found.setdefault(fault, Found(fault, detail, TARGETS[name](raw)))


def _seeds(name: str) -> list[bytes]:
    kind = name.removeprefix("read ")
    if kind in recordings.NAMES:
        return [recordings.good(kind)]
    if name == "archives":
        from tests.fuzz.target_data import make_tar, make_zip

        members = [(b"S001C001P001R001A001.skeleton", b"0\n")]
        return [make_zip(members, False), make_tar(members, "w", 0, {})]
    return [recordings.OWN_SKELETON] if name == "layouts" else [(ROOT / "glt" / "recipes" / "sample.yaml").read_bytes()]
