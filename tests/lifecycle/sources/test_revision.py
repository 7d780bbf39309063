"""Recordings of a DVC revision, on real git and DVC repositories."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from glt import logs
from glt.errors import GltError
from glt.lifecycle import recordings, sources
from glt.lifecycle.sources.revision import RevisionSource
from tests.data.recorded import write_folder
from tests.lifecycle.projects import RECORDINGS, commit, run


def pinned(project: Path) -> str:
    return recordings.pinned_version(project)


def head(project: Path) -> str:
    return run(project, "git", "rev-parse", "HEAD").strip()


def test_a_revision_has_the_version_that_it_pins(project: Path) -> None:
    first = pinned(project)
    write_folder(project / "data", {"new.skeleton": b"three"})
    recordings.replace(project, project / "data")
    commit(project, "v2")
    assert sources.resolve(f"dvc+{project}@v1").version == first
    assert sources.resolve(f"dvc+{project}@v2").version == pinned(project) != first
    assert sources.resolve(str(project / "data")).version == pinned(project)


@pytest.mark.parametrize("remote", [False, True], ids=["working tree", "clone"])
def test_a_branch_that_moves_does_not_move_the_source(project: Path, tmp_path: Path, remote: bool) -> None:
    url, first = f"file://{project}" if remote else str(project), head(project)
    source = sources.resolve(f"dvc+{url}@main")
    assert source.address == f"dvc+{url}@{first}"
    write_folder(project / "data", {"new.skeleton": b"three"})
    recordings.replace(project, project / "data")
    commit(project, "v2")
    files = source.fetch(tmp_path / "work")
    assert {p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*.skeleton")} == RECORDINGS
    assert sources.resolve(source.address) == source
    later = sources.resolve(f"dvc+{url}@main")
    assert (later.version, later.address) == (pinned(project), f"dvc+{url}@{head(project)}")


@pytest.mark.parametrize("revision", ["main", "v1", "annotated", "{commit}", "{abbreviated}"])
def test_every_kind_of_revision_is_resolved_to_its_commit(project: Path, revision: str) -> None:
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@t", "tag", "-a", "-m", "x", "annotated")
    revision = revision.format(commit=head(project), abbreviated=head(project)[:8])
    assert sources.resolve(f"dvc+{project}@{revision}") == RevisionSource(str(project), head(project), pinned(project))


def test_what_was_fetched_is_not_fetched_again(project: Path, tmp_path: Path) -> None:
    source = sources.resolve(f"dvc+{project}@v1")
    stamp = source.fetch(tmp_path / "work").stat().st_mtime_ns
    assert source.fetch(tmp_path / "work").stat().st_mtime_ns == stamp
    with sources.local_folder(source) as files:
        assert sorted(file.name for file in files.rglob("*.skeleton")) == ["a.skeleton", "b.skeleton"]
    assert not files.exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("dvc+nowhere", r"write dvc\+<git repository>@"),
        ("dvc+git@example.org:team/data.git", r"write dvc\+<git repository>@"),
        ("dvc+{project}@v9", "the repository has no branch, tag or commit v9"),
        ("dvc+file://{project}@v9", "the repository has no branch, tag or commit v9"),
        ("dvc+{project}@empty", r"that revision has no data\.dvc"),
        ("dvc+{project}/missing@v1", r"cannot read data\.dvc there: .*; check the repository's address"),
        ("dvc+http://127.0.0.1:9/x.git@v1", r"cannot read data\.dvc there: .*; check the repository's address"),
    ],
)
def test_wrong_addresses_are_named_in_one_line(project: Path, address: str, message: str) -> None:
    run(project, "git", "checkout", "-q", "--orphan", "empty")
    run(project, "git", "rm", "-q", "--cached", "data.dvc")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "empty", "--allow-empty")
    run(project, "git", "checkout", "-qf", "main")
    address = address.format(project=project)
    with pytest.raises(GltError, match=message) as caught:
        sources.resolve(address)
    assert address in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_fetching_without_the_objects_leaves_nothing(project: Path, tmp_path: Path) -> None:
    (project / ".dvc" / "config").write_text(
        f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {tmp_path / 'empty'}\n"
    )
    shutil.rmtree(project / ".dvc" / "cache")
    commit(project, "v2")
    source = sources.resolve(f"dvc+{project}@v2")
    with pytest.raises(GltError, match="cannot be downloaded"):
        source.fetch(tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_a_pods_own_names_reach_git_dvc_and_the_store(
    origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's pod has no AWS_* variable of ours; those that are there belong to Kubeflow's own store."""
    for theirs in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(theirs.replace("AWS_", "GLT_S3_"), os.environ[theirs])
        monkeypatch.setenv(theirs, "of the launcher")
    monkeypatch.setenv("GLT_S3_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"])
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    def read() -> list[str]:
        sources.resolve(f"dvc+{origin}@main").fetch(tmp_path / "fetched")
        bucket = sources.resolve("s3://landing/dvc")
        assert bucket.version
        return sorted(file.name for file in (tmp_path / "fetched").rglob("*.skeleton"))

    assert logs.run_entry(read) == ["S001C001P009R001A001.skeleton"]
