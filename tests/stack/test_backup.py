"""What the nightly backup saves and the restore brings back, by the commands of their manifests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from glt import artifact
from glt.lifecycle import registry, tracking
from infra.local.servers import StackError
from infra.local.stack import Stack
from tests.lifecycle.conftest import make_classifier
from tests.stack import encryption
from tests.stack.models import promoted, register


@pytest.fixture
def after_a_fire(stack: Stack, tmp_path: Path) -> Iterator[Stack]:
    """Servers elsewhere that have stored nothing yet, with the same Secrets and what the backup's volume holds."""
    (tmp_path / "elsewhere").mkdir()
    shutil.copyfile(stack.folder / "secrets.json", tmp_path / "elsewhere" / "secrets.json")
    made = Stack(tmp_path / "elsewhere")
    made.up()
    yield made
    made.down()


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def encrypted(request: pytest.FixtureRequest, stack: Stack, after_a_fire: Stack) -> Iterator[bool]:
    """True if the backup is encrypted, as docs/cluster.md says."""
    if request.param:
        for servers in (stack, after_a_fire):
            servers.change_secret("backup-encryption", **encryption.secret("the key"))
    yield request.param
    if request.param:
        stack.change_secret("backup-encryption", **encryption.PLAIN)


def everything(names: list[str]) -> dict[str, Any]:
    """What MLflow holds: runs with all they say, models with versions, aliases, history, digests of their files."""
    client = tracking.connect()
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=100)]
    found: dict[str, Any] = {
        "runs": {
            run.info.run_id: (run.info.status, run.data.metrics, run.data.params, run.data.tags)
            for run in client.search_runs(experiments, max_results=1000)
        }
    }
    for name in names:
        model = client.get_registered_model(name)
        versions = client.search_model_versions(f"name='{name}'")
        found[name] = {
            "aliases": dict(model.aliases),
            "history": registry.history(name),
            "versions": {version.version: dict(version.tags) for version in versions},
            "files": {
                version.version: artifact.digest(registry.find(f"{name}/{version.version}").folder())
                for version in versions
            },
        }
    return found


def point_to(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)


@pytest.mark.fault(
    "a node's servers are lost with their volumes",
    "the backup restores runs, models, aliases, history and recordings as they were",
)
def test_after_a_restore_everything_is_as_it_was(
    stack: Stack, after_a_fire: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    backups = stack.folder / "backups" / ("encrypted" if encrypted else "")
    suffix = ".bin" if encrypted else ""
    names = [
        promoted(tmp_path / one, f"saved-{one}-{encrypted}", versions=3 - count) for count, one in enumerate("ab", 1)
    ]
    registry.promote(names[0], "2", "better")
    boto3.Session().client("s3", region_name="us-east-1").put_object(
        Bucket="recordings", Key="files/md5/ab/cdef", Body=b"x" * 99
    )
    stack.job("backup")
    # A second night: what is new is added, and both nights can be restored.
    register(make_classifier(tmp_path / "later", 7), f"saved-b-{encrypted}")
    stack.job("backup")
    assert len(list(backups.glob(f"database-*.dump{suffix}"))) == 2
    saved = backups / "recordings" / "files" / "md5" / "ab" / f"cdef{suffix}"
    assert (saved.read_bytes() == b"x" * 99) is not encrypted
    before = everything(names)
    assert {"champion": "2", "previous": "1"}.items() <= before[names[0]]["aliases"].items()

    shutil.copytree(stack.folder / "backups", after_a_fire.folder / "backups")
    after_a_fire["mlflow"].stop()
    if encrypted:
        after_a_fire.change_secret("backup-encryption", **encryption.secret("another key"))
        with pytest.raises(StackError, match=r"failed to authenticate decrypted block - bad password"):
            after_a_fire.job("restore")
        after_a_fire.change_secret("backup-encryption", **encryption.secret("the key"))
    assert "restoring database-" in after_a_fire.job("restore")
    after_a_fire["mlflow"].start()
    point_to(after_a_fire, monkeypatch)
    assert everything(names) == before
    recordings = boto3.Session().client("s3", region_name="us-east-1")
    assert recordings.get_object(Bucket="recordings", Key="files/md5/ab/cdef")["Body"].read() == b"x" * 99
    # And life goes on: what is made next has the next number.
    assert register(make_classifier(tmp_path / "next", 8), f"saved-b-{encrypted}").version == "3"
    assert registry.rollback(names[0]).version == "1"
