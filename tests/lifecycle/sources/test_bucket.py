"""Recordings in a bucket, on a real S3 server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from glt.errors import GltError
from glt.lifecycle import dvc_hash, recordings, sources
from glt.lifecycle.sources import bucket as module
from glt.lifecycle.sources import object_cache
from tests.lifecycle import projects
from tests.lifecycle.projects import commit, run


def put(client: Any, **objects: bytes) -> None:
    for name, content in objects.items():
        client.put_object(Bucket="landing", Key=f"lab/{name.replace('__', '/')}.zip", Body=content)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def fetch(address: str, folder: Path) -> Path:
    return sources.resolve(address).fetch(folder)


def test_a_prefix_is_brought_whole_and_again_only_what_is_new(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = bytes(range(256)) * (40 << 10)  # more than one part of an upload
    (tmp_path / "large").write_bytes(large)
    put(bucket, week1=b"one", week2__a=b"two")
    bucket.upload_file(str(tmp_path / "large"), "landing", "lab/large.zip")
    bucket.put_object(Bucket="landing", Key="elsewhere/x.zip", Body=b"x")
    first = sources.resolve("s3://landing/lab/").version
    place = fetch("s3://landing/lab/", tmp_path / "home")
    assert files(place) == {"large.zip": large, "week1.zip": b"one", "week2/a.zip": b"two"}
    assert place.is_relative_to(tmp_path / "home")

    fetched: list[str] = []
    download = object_cache._download
    monkeypatch.setattr(object_cache, "_download", lambda *given: (fetched.append(given[4].name), download(*given)))
    put(bucket, week3=b"three", week1=b"ONE")
    bucket.delete_object(Bucket="landing", Key="lab/week2/a.zip")
    assert sources.resolve("s3://landing/lab/").version != first
    assert files(fetch("s3://landing/lab/", tmp_path / "home")) == {
        "large.zip": large,
        "week1.zip": b"ONE",
        "week3.zip": b"three",
    }
    assert sorted(fetched) == ["week1.zip", "week3.zip"]


def test_a_single_object_is_an_address(bucket: Any, tmp_path: Path) -> None:
    put(bucket, week1=b"one")
    assert files(fetch("s3://landing/lab/week1.zip", tmp_path)) == {"week1.zip": b"one"}


def test_a_prefix_is_a_folder_and_not_the_beginning_of_other_names(bucket: Any, tmp_path: Path) -> None:
    put(bucket, week__one=b"1", week2__two=b"2", week_zip=b"3")
    assert files(fetch("s3://landing/lab/week", tmp_path)) == {"one.zip": b"1"}
    assert module.list_objects("s3://landing/lab/week") == module.list_objects("s3://landing/lab/week/")


def test_a_file_that_was_damaged_here_is_fetched_again(bucket: Any, tmp_path: Path) -> None:
    put(bucket, week1=b"one")
    place = fetch("s3://landing/lab", tmp_path)
    (place / "week1.zip").write_bytes(b"o")
    assert files(fetch("s3://landing/lab", tmp_path)) == {"week1.zip": b"one"}


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("s3://landing/nothing", "no objects there"),
        ("s3://nowhere/lab", "check the bucket"),
        ("s3://nowhere", "NoSuchBucket.*check the bucket"),
        ("s3://landing", "no objects there"),
        ("s3://landing/", "no objects there"),
        ("s3://", r"write s3://bucket/prefix"),
        ("s3://My_Bucket/lab", r"write s3://bucket/prefix"),
    ],
)
def test_what_is_not_there_is_reported(bucket: Any, tmp_path: Path, address: str, why: str) -> None:
    with pytest.raises(GltError, match=why) as caught:
        fetch(address, tmp_path)
    assert address in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_wrong_keys_are_reported(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(GltError, match="AWS_SECRET_ACCESS_KEY"):
        fetch("s3://landing/lab", tmp_path)


def test_a_server_that_is_away_is_reported_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(GltError, match="AWS_ENDPOINT_URL"):
        sources.resolve("s3://landing/lab")
    assert time.monotonic() - started < 20


def test_versions_are_those_of_recorded_runs(bucket: Any) -> None:
    put(bucket, week1=b"one", week2__a=b"two")
    assert sources.resolve("s3://landing/lab").version == "s3-fe166ec8f6cbc24067746f982cceb4a5"


@pytest.mark.parametrize("large", [False, True], ids=["one request", "in parts"])
@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_an_object_that_changes_after_the_listing_is_not_trained_on(
    bucket: Any, tmp_path: Path, change: str, large: bool
) -> None:
    content = bytes(range(256)) * ((40 << 10) if large else 1)
    for name in ("week1", "week2"):
        (tmp_path / name).write_bytes(content)
        bucket.upload_file(str(tmp_path / name), "landing", f"lab/{name}.zip")
    source = sources.resolve("s3://landing/lab")
    version = source.version
    if change == "replaced":
        bucket.put_object(Bucket="landing", Key="lab/week1.zip", Body=content[::-1])
    else:
        bucket.delete_object(Bucket="landing", Key="lab/week1.zip")
    with pytest.raises(GltError, match=r"lab/week1\.zip: changed or deleted since .*; start a new run"):
        source.fetch(tmp_path / "home")
    assert not list((tmp_path / "home").rglob("*week1*"))
    later = sources.resolve("s3://landing/lab", version)
    assert later.version != version
    assert "week2.zip" in files(later.fetch(tmp_path / "home"))


def test_an_object_that_arrives_after_the_listing_belongs_to_the_next_run(bucket: Any, tmp_path: Path) -> None:
    put(bucket, week1=b"one")
    source = sources.resolve("s3://landing/lab")
    put(bucket, week2=b"two")
    assert files(source.fetch(tmp_path)) == {"week1.zip": b"one"}
    assert sources.resolve("s3://landing/lab").version != source.version
    # Another process, which was told the version: a step of the graph.
    time.sleep(1.1)  # S3 gives the time of an object in seconds
    put(bucket, a_week3=b"three", week4=b"four")
    again = sources.resolve("s3://landing/lab", source.version)
    assert again == source
    assert files(again.fetch(tmp_path)) == {"week1.zip": b"one"}
    assert files(fetch("s3://landing/lab", tmp_path)).keys() == {
        *("a_week3.zip", "week1.zip", "week2.zip", "week4.zip")
    }


def test_another_run_that_fetches_meanwhile_is_noticed(bucket: Any) -> None:
    put(bucket, week1=b"one")
    source = sources.resolve("s3://landing/lab")
    put(bucket, week2=b"two")
    with pytest.raises(GltError, match=r"week2\.zip was added during the run"), sources.local_folder(source):
        with sources.local_folder(sources.resolve("s3://landing/lab")) as other:
            assert files(other).keys() == {"week1.zip", "week2.zip"}


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
    assert dvc_hash.content_md5(third / "data") == done.version
    recordings.prepare(clone)  # what was missing of it is pulled
    assert files(clone / "data") == files(third / "data")
