"""Queries the DVC remote through DVC, which knows proxy and keys, in a separate process with a time limit.

``python -m glt.lifecycle.dvc_remote ROOT VERSION SECONDS`` prints the answer as JSON: `error` and `unsafe`.
"""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from glt import settings, text
from glt.errors import GltError, first_line

_SECONDS = 25  # in which the remote answers
_START = 120.0  # seconds in which DVC is imported, on a busy machine too
_LISTING = ".dir"  # ends the hash of a folder


def address(root: Path) -> str:
    """The configured address of the remote (of a bucket, its endpoint); empty if there is none."""
    config = configparser.RawConfigParser(strict=False)
    config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"])
    name = config.get("core", "remote", fallback="")
    section = f"'remote \"{name}\"'"
    if not name or not config.has_option(section, "url"):
        return ""
    url = config.get(section, "url")
    if "://" not in url:
        return str((root / ".dvc" / url).resolve())
    return config.get(section, "endpointurl", fallback=settings.object_store()) or url


def problem(root: Path, version: str) -> str:
    """The reason why recordings cannot be exchanged with the remote, or an empty string.

    Args:
        root: a git repository with DVC.
        version: the content hash of recordings that will be pulled, to check the paths in their listing on the remote;
            empty if none will be.
    """
    where = address(root)
    if not where:
        return f"{root / '.dvc' / 'config'} names no remote"
    if "://" not in where and not Path(where).is_dir():
        return f"the DVC remote {where} does not exist"
    if "://" not in where and not version:
        return ""  # a local folder can be written to without asking
    # A single attempt: DVC and its libraries would otherwise retry until the time limit.
    environment = {**os.environ, "AWS_MAX_ATTEMPTS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", __name__, str(root), version, str(_SECONDS)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_START + _SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the DVC remote {where} cannot be queried: DVC does not start within {_START:.0f} s"
    if done.returncode == -signal.SIGALRM:
        return f"the DVC remote {where} does not answer within {_SECONDS} s"
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return f"the DVC remote {where} cannot be queried: {first_line(GltError(done.stderr[-300:]))}"
    if unsafe := answer.get("unsafe"):
        return str(unsafe)
    return f"the DVC remote {where} does not answer DVC ({answer['error']})" if answer["error"] else ""


def check_listing(repository: Any, version: str, what: str) -> None:
    """Check that a folder's listing, in DVC's cache or remote, names nothing outside the folder.

    Args:
        repository: a `dvc.repo.Repo`.
        version: the content hash of the folder.
        what: names the recordings in the message.

    Raises:
        GltError: a path in it leads out of the folder, or it is no listing.
        Exception: DVC's own, if the remote cannot be read.
    """
    if not version.endswith(_LISTING):
        return
    remote = repository.cloud.get_remote_odb()
    for store in filter(None, (repository.cache.local, remote)):  # a bare repository has no cache
        path = store.oid_to_path(version)
        try:
            content = store.fs.cat_file(path)
        except FileNotFoundError:
            continue
        _check_paths(content, what)
        return


def _check_paths(content: bytes, what: str) -> None:
    try:
        paths = [str(entry["relpath"]) for entry in json.loads(content)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise GltError(f"{what}: its listing on the DVC remote is damaged ({first_line(error)}); not pulled") from error
    files = set(paths)
    for path in paths:
        problem = "which leads out of the folder" if _leads_out(path) else ""
        if not files.isdisjoint(_folders(path)):
            problem = "which lies below a file"
        if problem:
            raise GltError(
                f"{what}: its listing on the DVC remote names {text.printable(path)[:80]!r}, {problem}; "
                "nothing was pulled: somebody has changed the remote"
            )


def _leads_out(path: str) -> bool:
    """True unless a path stays in its folder on every system."""
    parts = path.replace("\\", "/").split("/")
    return path[1:2] == ":" or "\0" in path or any(part in ("", ".", "..") for part in parts)


def _folders(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def main(root: str, version: str, seconds: str) -> None:
    """Query the remote of a project, and print the answer."""
    from dvc.repo import Repo

    answer = {"error": "", "unsafe": ""}
    signal.alarm(int(seconds))  # ends this process, whatever it waits for
    try:
        with Repo(root) as repository:
            check_listing(repository, version, f"{root}/data.dvc")
            remote = repository.cloud.get_remote_odb()
            with suppress(FileNotFoundError):  # a missing object is an answer, too
                remote.fs.info(remote.oid_to_path(version or "0" * 32))
    except GltError as error:
        answer["unsafe"] = str(error)
    except Exception as error:
        answer["error"] = first_line(error)
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
