"""Checks of this machine and its services: one line each, with the remedy.

Nothing is changed by them but MLflow's record of runs that have ended on the Kubeflow Pipelines server.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

from glt import settings
from glt.errors import GltError, first_line
from glt.lifecycle import dvc_hash, kubeflow, kubeflow_runs, local_store, recordings, tracking
from glt.lifecycle.connection import shown
from glt.lifecycle.data_pin import DATA, PIN
from glt.serving import keys

SECONDS = 2.0  # that a service may take to answer
PACKAGES = ("torch", "kfp", "mlflow", "dvc")
PORTS = {5000: "make ui", 5001: "glt serve"}
GIB = 2**30
SHOWN = 5  # runs that a line names


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
        check: what was checked, in a word or two.
        status: a problem stops work; a warning stops some of it.
        message: what was found.
        remedy: what to do about it; empty if all is well.
    """

    check: str
    status: Literal["ok", "warning", "problem"]
    message: str
    remedy: str = ""


def examine(root: Path) -> list[Result]:
    """Check everything; `root` is the project's folder. An error within a check is a problem, not an end."""
    results: list[Result] = []
    services = (_mlflow, _object_store, _data, _git, _kfp, _open_runs, _keys)
    machine = (_ports, _disk, _memory, _threads, _gpu, _engine)
    for check in (_versions, *services, *machine):
        try:
            results += check(root)
        except Exception as error:
            results.append(Result(check.__name__.strip("_"), "problem", f"cannot be checked: {first_line(error)}"))
    return results


def _versions(root: Path) -> Iterator[Result]:
    import platform

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    distribution = metadata.distribution("glt")
    wanted, python = distribution.metadata["Requires-Python"], platform.python_version()
    supported = SpecifierSet(wanted).contains(python)
    yield Result(
        "python",
        "ok" if supported else "problem",
        f"{python}, glt takes {wanted}",
        "" if supported else "make the environment anew with a Python in this range: make setup PYTHON=...",
    )
    ranges: dict[str, SpecifierSet] = {}
    for requirement in map(Requirement, distribution.requires or ()):
        if requirement.specifier:
            ranges.setdefault(requirement.name, requirement.specifier)
    for name in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Result(name, "problem", "not installed", "make setup")
            continue
        fits = ranges.get(name, SpecifierSet()).contains(version, prereleases=True)
        message = f"{version}, glt takes {ranges.get(name, 'any')}"
        remedy = "" if fits else "make setup installs a version that fits"
        yield Result(name, "ok" if fits else "problem", message, remedy)


def _mlflow(root: Path) -> Iterator[Result]:
    uri, file = settings.store_uri(), settings.store_file()
    if file is None:
        yield _answers("mlflow store", f"{uri.rstrip('/')}/health", "start the server, or correct MLFLOW_TRACKING_URI")
        return
    if not file.exists():
        yield Result("mlflow store", "ok", f"{file} does not exist yet; the first run creates it")
        return
    try:
        found, expected = local_store.revision(file), local_store.installed_revision()
    except (GltError, sqlite3.Error) as error:
        yield Result("mlflow store", "problem", f"{file}: {first_line(error)}", "restore it from a backup, or move it")
        return
    if found == expected:
        yield Result("mlflow store", "ok", f"{file}, schema {found}")
        return
    message = f"{file}: {f'schema {found}' if found else 'no schema'}, this MLflow has {expected}"
    if not found or local_store.is_known(found):
        yield Result("mlflow store", "warning", message, "nothing to do: the next command migrates it and keeps a copy")
    else:
        yield Result("mlflow store", "problem", message, "install the newer MLflow that wrote it")


def _object_store(root: Path) -> Iterator[Result]:
    if address := settings.object_store():
        yield _answers("object store", address, "start the object store, or correct AWS_ENDPOINT_URL")
    else:
        yield Result("object store", "ok", "AWS_ENDPOINT_URL is not set: s3:// addresses are Amazon's")


def _answers(check: str, url: str, remedy: str) -> Result:
    """Check that an HTTP server responds, be it with a client error. An account in its address is not shown."""
    scheme, separator, place = url.rpartition("://")
    url = f"{scheme}{separator}{place.rpartition('@')[2]}"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            return Result(check, "problem", f"{url} responds with {error.code}", remedy)
    except (OSError, ValueError) as error:
        return Result(check, "problem", f"{url} does not respond: {first_line(error)}", remedy)
    return Result(check, "ok", f"{url} responds")


def _data(root: Path) -> Iterator[Result]:
    if not (root / PIN).exists():
        yield Result("data", "warning", f"{root}: no data.dvc", "go to the project's folder, or: glt data RECORDINGS")
        return
    pin = recordings.read_pin(root)
    files = dvc_hash.list_files(root / DATA)
    size = sum(path.stat().st_size for path in files)
    sizes = f"data/ has {len(files)} files, {size:,} bytes"
    if (len(files), size) == (pin.files, pin.size):
        yield Result("data", "ok", f"{sizes}, as data.dvc pins")
    else:
        remedy = "get it: make data" if not files else "move your files away, then: make data"
        yield Result("data", "warning", f"{sizes}; data.dvc pins {pin.files}, {pin.size:,} bytes", remedy)
    if error := recordings.remote_problem(root):
        remedy = "correct the remote in .dvc/config.local; without one, new recordings stay on this machine"
        yield Result("dvc remote", "warning", error, remedy)
    else:
        yield Result("dvc remote", "ok", "responds")


def _git(root: Path) -> Iterator[Result]:
    if shutil.which("git") is None:
        yield Result("git", "warning", "not installed", "install git; lineage and data.dvc's history need it")
        return
    command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        yield Result("git", "warning", f"{root} has no commit", "clone the project, or: git init, git add, git commit")
    else:
        yield Result("git", "ok", f"commit {done.stdout.strip()}")


def _keys(root: Path) -> Iterator[Result]:
    try:
        private, public = keys.signing_key(), keys.verifying_keys()
    except GltError as error:
        problem, remedy = _split(error)
        yield Result("model keys", "problem", problem, remedy)
        return
    known = ", ".join(key.short_id for key in public)
    if private is None and not public:
        message = "none: the registry's digests alone verify models, so who can write to it can replace them"
        remedy = f"make keys (glt new-key FOLDER), sign the models in use (glt sign), set {settings.VERIFYING_KEYS}"
        yield Result("model keys", *(("ok", message) if settings.is_local() else ("warning", message, remedy)))
    elif private is None:
        yield Result("model keys", "ok", f"models must be signed by {known}; those registered here are not signed")
    elif private.id not in {key.id for key in public}:
        message = f"models registered here are signed by {private.short_id}, but {known or 'no key'} verifies them"
        yield Result("model keys", "warning", message, f"add its public key to {settings.VERIFYING_KEYS}")
    elif private.file is not None and private.file.stat().st_mode & 0o077:
        remedy = f"chmod 600 {private.file}; if others may have read it, make a new pair: glt new-key FOLDER"
        yield Result("model keys", "warning", f"{private.file} can be read by others", remedy)
    else:
        yield Result("model keys", "ok", f"models are signed by {private.short_id}, and must be by {known}")


def _ports(root: Path) -> Iterator[Result]:
    for port, user in PORTS.items():
        with socket.socket() as probe:
            probe.settimeout(SECONDS)
            taken = probe.connect_ex(("127.0.0.1", port)) == 0
        if taken:
            remedy = "the next free port will be used and printed; stop the other program to use this one"
            yield Result(f"port {port}", "warning", f"in use, {user} needs it", remedy)
        else:
            yield Result(f"port {port}", "ok", f"free for {user}")


def _disk(root: Path) -> Iterator[Result]:
    for name, folder in (("GLT_HOME", settings.home()), ("temporary files", Path(tempfile.gettempdir()))):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free / GIB
        status: Literal["ok", "warning", "problem"] = "problem" if free < 1 else "warning" if free < 5 else "ok"
        remedy = "" if status == "ok" else f"free space there, or set {'GLT_HOME' if name == 'GLT_HOME' else 'TMPDIR'}"
        if not os.access(existing, os.W_OK):
            status, remedy = "problem", f"make {existing} writable, or use another folder"
        yield Result(f"disk for {name}", status, f"{free:.1f} GiB free at {folder}", remedy)


def _memory(root: Path) -> Iterator[Result]:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    with contextlib.suppress(OSError, StopIteration):  # Linux knows better: caches can be given back
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / 2**20
    few = free < 2
    yield Result("memory", "warning" if few else "ok", f"{free:.1f} GiB available", "end other programs" if few else "")


def _threads(root: Path) -> Iterator[Result]:
    cores, threads = len(os.sched_getaffinity(0)), settings.threads()
    if threads.isdecimal() and int(threads) > cores:
        remedy = f"set OMP_NUM_THREADS to at most {cores}, or unset it"
        yield Result("threads", "warning", f"OMP_NUM_THREADS is {threads}, but there are {cores} cores", remedy)
    else:
        yield Result("threads", "ok", f"{cores} cores, OMP_NUM_THREADS {threads or 'not set'}")


def _gpu(root: Path) -> Iterator[Result]:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield Result("gpu", "ok", ", ".join(names) or "none; models are trained on the CPU")


def _engine(root: Path) -> Iterator[Result]:
    found = [engine for engine in ("podman", "docker") if shutil.which(engine)]
    remedy = "" if found else "install podman or docker; only make image and RUNNER=docker need one"
    yield Result("containers", "ok" if found else "warning", ", ".join(found) or "no engine", remedy)


def _kfp(root: Path) -> Iterator[Result]:
    if not settings.pipelines_endpoint():
        yield Result("kubeflow", "ok", "KF_PIPELINES_ENDPOINT is not set: no cluster to submit to")
        return
    try:
        server = kubeflow.connect(SECONDS)
        found = kubeflow.describe(server)
        kubeflow.require(server.configuration.host, found)
    except GltError as error:
        problem, remedy = _split(error)
        yield Result("kubeflow", "problem", problem, remedy)
        return
    users = "Kubeflow profiles" if found.multi_user else "one namespace"
    yield Result("kubeflow", "ok", f"Kubeflow Pipelines {found.tag} with {users} at {shown(server.configuration.host)}")


def _open_runs(root: Path) -> Iterator[Result]:
    """Close the runs in MLflow that have ended on the Kubeflow Pipelines server, and count the others."""
    if settings.is_local():
        return
    if _answers("mlflow store", f"{settings.store_uri().rstrip('/')}/health", "").status != "ok":
        return
    client = tracking.connect()
    before = kubeflow_runs.open_runs(client)
    if not before:
        yield Result("open runs", "ok", "no pipeline run is open in MLflow")
        return
    problem = "KF_PIPELINES_ENDPOINT is not set"
    if kubeflow.address():
        try:
            closed = kubeflow_runs.close_ended(client)
        except GltError as error:
            problem, _ = _split(error)
        else:
            problem = ""
            ended = ", ".join(f"{one.run.info.run_name} ({one.status})" for one in closed[:SHOWN])
            more = ", ..." if len(closed) > SHOWN else ""
            if closed:
                yield Result("ended runs", "ok", f"closed in MLflow, as their pipeline runs have ended: {ended}{more}")
    left = kubeflow_runs.open_runs(client)
    if not left:
        return
    since = datetime.fromtimestamp(left[0].info.start_time / 1000).astimezone().isoformat(" ", "minutes")
    message = f"{len(left)} pipeline run{'s' if len(left) > 1 else ''} open in MLflow, the oldest since {since}"
    if problem:
        remedy = "set KF_PIPELINES_ENDPOINT and a way to log in; then glt doctor closes those that have ended"
        yield Result("open runs", "warning", f"{message}; which of them live is unknown: {problem}", remedy)
    else:
        yield Result("open runs", "ok", f"{message}; none has ended by what Kubeflow Pipelines says")


def _split(error: GltError) -> tuple[str, str]:
    """The problem and the remedy in a message; a message without a remedy is the problem."""
    problem, _, remedy = str(error).rpartition("; ")
    return (problem, remedy) if problem else (remedy, "")
