"""Recordings in a bucket, on a real S3 server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from glt.errors import GltError
from glt.lifecycle import landing, recordings, versions
from tests.lifecycle import projects
from tests.lifecycle.projects import commit, run


def put(client: Any, **objects: bytes) -> None:
    for name, content in objects.items():
        client.put_object(Bucket="landing", Key=f"lab/{name.replace('__', '/')}.zip", Body=content)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_prefix_is_brought_whole_and_again_only_what_is_new(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = bytes(range(256)) * (40 << 10)  # more than one part of an upload
    (tmp_path / "large").write_bytes(large)
    put(bucket, week1=b"one", week2__a=b"two")
    bucket.upload_file(str(tmp_path / "large"), "landing", "lab/large.zip")
    bucket.put_object(Bucket="landing", Key="elsewhere/x.zip", Body=b"x")
    first = versions.data_version("s3://landing/lab/")
    place = versions.fetch("s3://landing/lab/", tmp_path)
    assert files(place) == {"large.zip": large, "week1.zip": b"one", "week2/a.zip": b"two"}
    assert place.is_relative_to(tmp_path / "home")

    fetched: list[str] = []
    download = landing._download
    monkeypatch.setattr(landing, "_download", lambda *given: (fetched.append(given[4].name), download(*given)))
    put(bucket, week3=b"three", week1=b"ONE")
    bucket.delete_object(Bucket="landing", Key="lab/week2/a.zip")
    assert versions.data_version("s3://landing/lab/") != first
    assert files(versions.fetch("s3://landing/lab/", tmp_path)) == {
        "large.zip": large,
        "week1.zip": b"ONE",
        "week3.zip": b"three",
    }
    assert sorted(fetched) == ["week1.zip", "week3.zip"]


def test_a_single_object_is_an_address(bucket: Any, tmp_path: Path) -> None:
    put(bucket, week1=b"one")
    assert files(versions.fetch("s3://landing/lab/week1.zip", tmp_path)) == {"week1.zip": b"one"}


def test_a_prefix_is_a_folder_and_not_the_beginning_of_other_names(bucket: Any, tmp_path: Path) -> None:
    put(bucket, week__one=b"1", week2__two=b"2", week_zip=b"3")
    assert files(versions.fetch("s3://landing/lab/week", tmp_path)) == {"one.zip": b"1"}
    assert landing.listing("s3://landing/lab/week") == landing.listing("s3://landing/lab/week/")


def test_a_file_that_was_damaged_here_is_fetched_again(bucket: Any, tmp_path: Path) -> None:
    put(bucket, week1=b"one")
    place = versions.fetch("s3://landing/lab", tmp_path)
    (place / "week1.zip").write_bytes(b"o")
    assert files(versions.fetch("s3://landing/lab", tmp_path)) == {"week1.zip": b"one"}


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("s3://landing/nothing", "no objects there"),
        ("s3://nowhere/lab", "check the bucket"),
        ("s3://", r"write s3://bucket/prefix"),
    ],
)
def test_what_is_not_there_is_said(bucket: Any, tmp_path: Path, address: str, why: str) -> None:
    with pytest.raises(GltError, match=why):
        versions.fetch(address, tmp_path)


def test_wrong_keys_are_said(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(GltError, match="AWS_SECRET_ACCESS_KEY"):
        versions.fetch("s3://landing/lab", tmp_path)


def test_a_server_that_is_away_is_said_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(GltError, match="AWS_ENDPOINT_URL"):
        versions.data_version("s3://landing/lab")
    assert time.monotonic() - started < 20


def test_a_batch_is_added_in_a_clone_that_has_none_of_the_others(bucket: Any, tmp_path: Path) -> None:
    """`dvc add` of a new batch needs no pull of the old, push takes the new one alone, and a pull brings them all."""
    project, clone, third = tmp_path / "project", tmp_path / "clone", tmp_path / "third"
    projects.make(project, "s3://landing/dvc", {"week1.zip": b"one"}, bucket.meta.endpoint_url)
    run(tmp_path, "git", "clone", "-q", str(project), str(clone))

    (tmp_path / "week2.zip").write_bytes(b"two")
    before = {entry["Key"] for entry in bucket.list_objects_v2(Bucket="landing")["Contents"]}
    done = recordings.add(clone, tmp_path / "week2.zip")
    assert done.pushed, done.reason
    assert files(clone / "data") == {"week2.zip": b"two"}
    after = {entry["Key"] for entry in bucket.list_objects_v2(Bucket="landing")["Contents"]}
    assert len(after - before) == 2  # the batch, and the listing of the folder
    with pytest.raises(GltError, match=r"has a week2\.zip already"):
        recordings.add(clone, tmp_path / "week2.zip")
    (tmp_path / "week1.zip").write_bytes(b"another")
    with pytest.raises(GltError, match=r"has a week1\.zip already"):
        recordings.add(clone, tmp_path / "week1.zip")

    commit(clone, "v2")
    run(tmp_path, "git", "clone", "-q", str(clone), str(third))
    recordings.prepare(third)
    assert files(third / "data") == {"week1.zip": b"one", "week2.zip": b"two"}
    assert versions.content_md5(third / "data") == done.version
    recordings.prepare(clone)  # what was missing of it is pulled
    assert files(clone / "data") == files(third / "data")
