"""Files in data/ that a person has changed by hand: collecting loses none of them, and goes on when they are mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glt.errors import GltError
from glt.lifecycle import collection, ledger, recordings, repository
from glt.reporter import Silent
from tests.data import recorded
from tests.lifecycle.odd_store import OddStore

RECIPE = recorded.recipe()


def collect(root: Path) -> collection.CollectionResult:
    return collection.collect(root, "s3://landing/lab", RECIPE.data, Silent())


@pytest.mark.fault("a person's own file in data/ that is named like a batch", "it stays")
@pytest.mark.fault("a ledger in data/ that was edited or damaged", "said in one line; the pinned one is used again")
@pytest.mark.fault("a ledger in data/ that was deleted, and data/ pinned without it", "written again")
@pytest.mark.fault("a damaged cache of verified files, or a data.dvc that is not UTF-8", "ignored, or one line")
def test_files_in_data_that_were_changed_by_hand(store: OddStore, project: Path) -> None:
    store.deliver({f"S001C001P{person:03}R001A001.skeleton": recorded.one_person(person, 4) for person in (1, 2)})
    done, data = collect(project), project / "data"
    entry = data / f".{done.batch.removesuffix('.zip')}.json"
    written = entry.read_bytes()

    own = data / "2026-01-01-deadbeef.zip"
    own.write_bytes(b"mine")
    assert collect(project).batch == ""
    assert own.read_bytes() == b"mine"
    own.unlink()

    for damage in (b'{"objects": {', b"", written.replace(b'"clips": 1', b'"clips": 2')):
        entry.unlink()  # DVC's cache may hold the same file
        entry.write_bytes(damage)
        with pytest.raises(GltError, match=r"json: not the file that .*data\.dvc pins; move it away"):
            collect(project)
    entry.unlink()
    assert collect(project).batch == ""

    recordings.replace(project, data)
    (project / ".dvc" / "tmp" / "glt-verified.json").write_bytes(b'{"md5"\xff')
    again = collect(project)
    assert again.batch == done.batch
    assert json.loads(entry.read_bytes())["objects"] == json.loads(written)["objects"]
    assert recordings.pinned_files(project).keys() >= {again.batch, entry.name}

    pin = project / "data.dvc"
    before = pin.read_bytes()
    pin.write_bytes(b"# caf\xe9\n" + before)
    with pytest.raises(GltError, match=r"data\.dvc: not a file that `dvc add data` wrote"):
        collect(project)
    pin.write_bytes(before)
    assert collect(project).batch == ""


@pytest.mark.fault("a lock that a killed git left behind", "one line that names the lock and the remedy")
def test_a_lock_of_git_is_named(project: Path) -> None:
    (project / "data.dvc").write_bytes((project / "data.dvc").read_bytes() + b"\n")
    lock = project / ".git" / "index.lock"
    lock.touch()
    with pytest.raises(GltError, match=rf"{lock} says that another git command is running; .* delete that file"):
        repository.commit(project, "x")


GOOD: dict[str, Any] = {"objects": {"s3://a/b": {"etag": "x", "clips": 1}}}
DAMAGES = {
    "a list": b"[]",
    "nothing": b"",
    "not UTF-8": b'{"objects": "\xff"}',
    "200,000 levels": b"[" * 200_000,
    "no clips": json.dumps({"objects": {"s3://a/b": {"etag": "x"}}}).encode(),
    "names in a list": json.dumps({**GOOD, "names": [1]}).encode(),
    "a number in words": json.dumps({**GOOD, "lost": "3"}).encode(),
    "no layout": json.dumps({**GOOD, "skeleton": {"name": "x"}}).encode(),
}


@pytest.mark.fault("a damaged ledger that data.dvc pins", "one line that names the file and the remedy")
@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_ledger_is_one_line(content: bytes) -> None:
    assert ledger._parse(json.dumps(GOOD).encode(), "data/x") == GOOD
    with pytest.raises(
        GltError, match=r"data/x: the ledger of a batch, and damaged \(.*restore the data\.dvc"
    ) as caught:
        ledger._parse(content, "data/x")
    assert len(str(caught.value).splitlines()) == 1
