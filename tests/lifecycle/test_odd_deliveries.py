"""Objects that cannot be fetched, named, read, packed or stored: each is rejected, and the rest is taken."""

from __future__ import annotations

import datetime as dt
import io
import json
import pickle
import shutil
import tarfile
import unicodedata
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from glt import text
from glt.data import delivery
from glt.data import ingest as module
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.data.layouts import NTU25, SBU15, Skeleton
from glt.errors import GltError
from glt.lifecycle import collection, dvc_hash, quarantine, recordings
from glt.lifecycle.sources.bucket import list_objects
from glt.reporter import Silent
from tests.data import recorded
from tests.data.test_table import parquet
from tests.lifecycle.odd_store import OddStore

ADDRESS = "s3://landing/lab"
RECIPE = recorded.recipe()
PROMISE = "the object is quarantined with its reason; the rest is taken"


@pytest.fixture(autouse=True)
def _without_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins in data/ without DVC's cache and remote, which take seconds; test_collection.py has the whole."""

    def add(root: Path, *batches: Path) -> recordings.PinResult:
        for batch in batches:
            batch.rename(root / "data" / batch.name)
        return recordings.PinResult("pinned", True, "")

    def pinned_files(root: Path, revision: str | None = None) -> dict[str, str]:
        return {file.name: dvc_hash.file_md5(file) for file in (root / "data").iterdir() if file.is_file()}

    monkeypatch.setattr(recordings, "add", add)
    monkeypatch.setattr(recordings, "pinned_files", pinned_files)


def skeleton(person: int) -> str:
    return f"S001C001P{person:03}R001A001.skeleton"


def take(root: Path, tmp_path: Path, recipe: Any = RECIPE) -> tuple[collection.CollectionResult, ClipStore | None]:
    """Collect, and ingest what was collected: it can always be."""
    done = collection.collect(root, ADDRESS, recipe.data, Silent())
    seen, taken, rejected, left_out = (done.account.get(key, 0) for key in ("seen", "taken", "rejected", "left_out"))
    assert seen == taken + rejected + left_out
    if not done.batch:
        return done, None
    ledger = collection.ledgers(root)[done.batch]
    assert ledger["account"] == done.account
    ingest(root / "data" / done.batch, recipe, tmp_path / "clips", {}, Silent(), tmp_path / "segments")
    clips = ClipStore(tmp_path / "clips")
    assert len(clips.index) == done.clips == sum(entry["clips"] for entry in ledger["objects"].values())
    return done, clips


def reasons(store: OddStore) -> dict[str, dict[str, Any]]:
    """The reasons in the quarantine, by the address of their object."""
    held = store.below(b"quarantine/")
    said = [json.loads(content) for key, content in held.items() if b"/files/" not in key]
    return {entry["object"]: entry for entry in said}


FETCH_ERRORS = {
    "no permission": (403, "AccessDenied"),
    "deleted meanwhile": (404, "NoSuchKey"),
    "in an archive": (403, "InvalidObjectState"),
    "no key": (400, "KMS.DisabledException"),
    "changed meanwhile": (412, "PreconditionFailed"),
    "another algorithm": (400, "InvalidRequest"),
    "not at all": (501, "NotImplemented"),
    "of an odd key, through a proxy": (403, "SignatureDoesNotMatch"),
}


@pytest.mark.fault("an object that the store lists but does not deliver", PROMISE)
def test_an_object_that_cannot_be_fetched_is_rejected_and_tried_again(
    store: OddStore, project: Path, tmp_path: Path
) -> None:
    odd = dict(zip((f"odd/{skeleton(10 + i)}" for i in range(len(FETCH_ERRORS))), FETCH_ERRORS.values(), strict=True))
    store.deliver({name: recorded.one_person(10 + i, 4) for i, name in enumerate(odd)})
    store.errors = {b"lab/" + name.encode(): error for name, error in odd.items()}
    store.deliver(
        {"good/" + skeleton(1): recorded.one_person(1, 4), "damaged/" + skeleton(2): recorded.one_person(2, 4)}
    )
    store.headers[b"lab/damaged/" + skeleton(2).encode()] = {"x-amz-checksum-crc32": "AAAAAA=="}
    done, clips = take(project, tmp_path)
    assert clips is not None
    assert (done.objects, done.clips, len(done.rejected)) == (len(odd) + 2, 1, len(odd) + 1)
    said = reasons(store)
    assert said.keys() == {f"{ADDRESS}/{name}" for name in (*odd, f"damaged/{skeleton(2)}")}
    for name, (_, code) in odd.items():
        (row,) = said[f"{ADDRESS}/{name}"]["rejected"]
        assert row["check"] == "unfetched"
        assert code in row["reason"] or "changed or deleted" in row["reason"]
    assert done.account == {"seen": len(odd) + 2, "taken": 1, "rejected": len(odd) + 1, "left_out": 0}
    held = store.below(b"quarantine/")
    again, _ = take(project, tmp_path)
    assert (again.objects, again.rejected, store.below(b"quarantine/")) == (0, (), held)
    store.errors, store.headers = {}, {}
    after, _ = take(project, tmp_path)
    assert (after.objects, after.clips, after.rejected) == (len(odd) + 1, len(odd) + 1, ())


@pytest.mark.fault(
    "a labels.csv that the store lists but does not deliver",
    "the recordings of its folder are taken once it can be fetched, so no label is lost",
)
def test_recordings_wait_for_a_sidecar_that_cannot_be_fetched(store: OddStore, project: Path, tmp_path: Path) -> None:
    recipe = recorded.recipe("table")
    store.deliver({f"{folder}/{name}": content for folder in "ab" for name, content in delivered_table().items()})
    store.deliver({"b/two.parquet": table(2)})
    del store.objects[b"lab/b/one.parquet"]
    store.errors[b"lab/a/skeleton.yaml"] = (403, "AccessDenied")
    done, _ = take(project, tmp_path, recipe)
    assert (done.clips, [row.check for row in done.rejected]) == (1, ["unfetched"])
    assert "its skeleton.yaml: " in done.rejected[0].reason
    store.errors = {}
    assert take(project, tmp_path, recipe)[0].clips == 1


ODD_FOLDERS = (
    *("..", ".", "a//b", "/leading", "back\\slash", "\x01\x1b[31m", "new\nline", "é" * 150, "x" * 300, "d/" * 300),
    *(
        "cafe\u0301",
        "caf\u00e9",
        "Case",
        "case",
        "\u202egnp",
        "C:",
        "%2E%2E",
        "plus+and space",
        "emoji\U0001f600",
        "'\"$`",
    ),
)


@pytest.mark.fault(
    "a key that is no valid file name: `..`, a backslash, `//`, 1,024 bytes, control characters, a folder's name",
    "taken under a clean name",
)
def test_any_key_is_taken_under_a_clean_name(store: OddStore, project: Path, tmp_path: Path) -> None:
    keys = {f"{folder}/{skeleton(i + 1)}": i + 1 for i, folder in enumerate(ODD_FOLDERS)}
    keys |= {
        f"{'k' * 900}/{skeleton(100)}": 100,
        f"twin/{skeleton(101)}": 101,
        f"D:/x/{skeleton(105)}": 105,
        f"D:\\x\\{skeleton(106)}": 106,
        f"D:\\x/{skeleton(107)}": 107,
        f"twin/{skeleton(101)}/{skeleton(102)}": 102,
    }
    store.deliver({name: recorded.one_person(person, 4) for name, person in keys.items()})
    store.deliver({b"undecodable\xff/" + skeleton(103).encode(): recorded.one_person(103, 4)})
    store.deliver({f"{'long' * 60}.skeleton": b"x", f"ends/{skeleton(104)}/": b"x", "folder/": b"", ".hidden": b"x"})
    store.deliver({"a/b/" + skeleton(3): recorded.one_person(3, 5)})  # differs from a//b in an empty part only
    done, clips = take(project, tmp_path)
    assert clips is not None
    assert set(clips.index["subject"]) >= set(keys.values())
    with zipfile.ZipFile(project / "data" / done.batch) as archive:
        names = archive.namelist()
    assert all(text.is_clean(name) and unicodedata.is_normalized("NFC", name) for name in names)
    assert all(len(part.encode()) < 255 and part not in ("", ".", "..") for name in names for part in name.split("/"))
    assert not any(name[1:2] == ":" for name in names)
    assert done.account["seen"] == len(list_objects(ADDRESS))
    ledger = collection.ledgers(project)[done.batch]
    assert len(ledger["left_out"]) == 1
    known = {*ledger["objects"], *ledger["rejected"], *ledger["left_out"]}
    assert len(known) == done.account["seen"]
    assert all(len(key) < 1024 for key in store.below(b"quarantine/"))
    again, _ = take(project, tmp_path)
    assert (again.objects, again.batch, again.rejected) == (0, "", ())


def table(seed: int, layout: Skeleton = SBU15) -> bytes:
    frames = np.random.default_rng(seed).normal(1, 0.3, (4, len(layout.joints), 3))
    rows = [
        {"frame": t, "person": 0, "joint": joint, **dict(zip("xyz", frames[t, k], strict=True))}
        for t in range(4)
        for k, joint in enumerate(layout.joints)
    ]
    return parquet(pd.DataFrame(rows))


def delivered_table(layout: Skeleton = SBU15, name: str = "one") -> dict[str, bytes]:
    return {f"{name}.parquet": table(1, layout), "skeleton.yaml": f"layout: {layout.name}\n".encode()}


@pytest.mark.fault(
    "a delivery whose skeleton layout differs from the project's", "it is quarantined; later ingests do not fail"
)
def test_another_layout_is_rejected(store: OddStore, project: Path, tmp_path: Path) -> None:
    recipe = recorded.recipe("table")
    store.deliver({f"week1/{name}": content for name, content in delivered_table().items()})
    assert take(project, tmp_path, recipe)[0].clips == 1
    store.deliver({f"week2/{name}": content for name, content in delivered_table(NTU25, "two").items()})
    store.deliver({"week1/three.parquet": table(3)})
    done, _ = take(project, tmp_path, recipe)
    assert (done.clips, [row.check for row in done.rejected]) == (1, ["layout"])
    assert "layout differs from the project's: ntu25" in done.rejected[0].reason
    (entry,) = reasons(store).values()
    assert entry["object"] == f"{ADDRESS}/week2/two.parquet"


@pytest.mark.fault("an object that was replaced by other content, or delivered once more", "rejected, or left out")
def test_what_data_has_already_is_not_taken_again(store: OddStore, project: Path, tmp_path: Path) -> None:
    store.deliver({skeleton(1): recorded.one_person(1, 4), skeleton(2): recorded.one_person(2, 4)})
    assert take(project, tmp_path)[0].clips == 2
    store.deliver({skeleton(1): recorded.one_person(1, 5), f"again/{skeleton(2)}": recorded.one_person(2, 4)})
    store.deliver({skeleton(3): recorded.one_person(3, 4)})
    done, _ = take(project, tmp_path)
    assert done.account == {"seen": 3, "taken": 1, "rejected": 1, "left_out": 1}
    (row,) = reasons(store)[f"{ADDRESS}/{skeleton(1)}"]["rejected"]
    assert row["check"] == "duplicate"
    assert "with other content" in row["reason"]
    assert list(collection.ledgers(project)[done.batch]["objects"]) == [f"{ADDRESS}/{skeleton(3)}"]
    assert take(project, tmp_path)[0].objects == 0


@pytest.mark.fault("an object that is larger than the disk", PROMISE)
def test_an_object_larger_than_the_disk_is_not_fetched(
    store: OddStore, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.deliver({skeleton(1): recorded.one_person(1, 4), "week.zip": bytes(200_000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    done, _ = take(project, tmp_path)
    assert (done.clips, [row.check for row in done.rejected]) == (1, ["unfetched"])
    assert "200,000 bytes, and 100,000 are free" in done.rejected[0].reason
    assert not any("week.zip" in path for path in store.requests if "list-type" not in path)


@pytest.mark.fault("recordings with the names of older ones in data/, but other content", PROMISE)
def test_data_never_holds_more_rejected_recordings_than_ingest_allows(
    store: OddStore, project: Path, tmp_path: Path
) -> None:
    store.deliver({f"first/{skeleton(i)}": recorded.one_person(i, 4) for i in range(1, 9)})
    assert take(project, tmp_path)[0].clips == 8
    store.deliver({f"again/{skeleton(i)}": recorded.one_person(i, 5) for i in range(1, 9)})
    done, _ = take(project, tmp_path)
    assert done.clips == 0
    assert {row.check for row in done.rejected} == {"duplicate"}
    assert "rename one of the two" in done.rejected[0].reason
    for file in ("a.skeleton", "deep/b.skeleton"):
        (project / "data" / file).unlink()
    ingest(project / "data", RECIPE, tmp_path / "all", {}, Silent(), tmp_path / "segments")


def annotations(names: str, length: int) -> bytes:
    walks = {name: recorded.walk(ord(name), length, 25)[None] for name in names}
    return pickle.dumps([{"frame_dir": name, "label": 0, "keypoint": walk} for name, walk in walks.items()])


@pytest.mark.fault(
    "a set of which most recordings conflict with those in data/", "rejected before ingest would stop at it"
)
def test_a_set_that_is_mostly_rejected_is_not_taken(store: OddStore, project: Path, tmp_path: Path) -> None:
    recipe = recorded.recipe("pyskl", "given", given="xsub")
    store.deliver({"one.pkl": annotations("abcdefgh", 4)})
    assert take(project, tmp_path, recipe)[0].clips == 8
    store.deliver({"two.pkl": annotations("abcdefz", 5), "three.pkl": annotations("yx", 4)})
    done, _ = take(project, tmp_path, recipe)
    assert (done.clips, [row.check for row in done.rejected]) == (2, ["max-rejects"])
    assert (
        "6 of its 7 recordings are rejected (duplicate: data/ has a clip a with other content"
        in done.rejected[0].reason
    )


@pytest.mark.fault("a file that makes ingest itself fail", PROMISE)
@pytest.mark.parametrize("where", ["inspection", "packing", "ingest"])
def test_a_file_that_breaks_the_program_is_rejected(
    store: OddStore, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    names = [skeleton(i) for i in range(1, 10)]
    bad = names[4]
    store.deliver({name: recorded.one_person(i, 4) for i, name in enumerate(names)})

    def breaking(function: Any, names_of: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if bad in names_of(*arguments):
                raise RuntimeError("no codec can encode this")
            return function(*arguments, **named)

        return call

    if where == "inspection":
        inspect = delivery.inspect
        monkeypatch.setattr(delivery, "inspect", breaking(inspect, lambda _, names, *__: names))
    elif where == "packing":
        pack = delivery.pack
        monkeypatch.setattr(delivery, "pack", breaking(pack, lambda accepted, *_: {one.name for one in accepted}))
    else:
        run = module.ingest
        monkeypatch.setattr(module, "ingest", breaking(run, lambda archive, *_: zipfile.ZipFile(archive).namelist()))
    done, _ = take(project, tmp_path)
    assert (done.clips, len(done.rejected)) == (8, 1)
    assert done.rejected[0].address.endswith(f"/files/{bad}")
    assert "no codec can encode this" in done.rejected[0].reason


@pytest.mark.fault("the store refuses the copy of a rejected object", "only the reason is stored; the rest is taken")
@pytest.mark.parametrize("rejected", [b"/files/", b"quarantine/"], ids=["the copy", "the reason, too"])
def test_an_object_that_cannot_be_quarantined_does_not_stop_the_others(
    store: OddStore, project: Path, tmp_path: Path, rejected: bytes
) -> None:
    store.deliver({skeleton(1): recorded.one_person(1, 4), skeleton(2): b"2\nnot a number\n"})
    store.rejected = rejected
    done, _ = take(project, tmp_path)
    assert (done.clips, len(done.rejected)) == (1, 1)
    if rejected == b"/files/":
        (entry,) = reasons(store).values()
        assert "InvalidRequest" in entry["not_copied"]
        assert done.quarantine_error == ""
    else:
        assert "InvalidRequest" in done.quarantine_error
    assert collection.ledgers(project)[done.batch]["rejected"].keys() == {f"{ADDRESS}/{skeleton(2)}"}


def archive_of(names: dict[bytes, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name, content in names.items():
            info = tarfile.TarInfo(name.decode("latin-1"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.fault("archive members with Latin-1 names, duplicate names, or paths that leave the archive", PROMISE)
def test_archives_with_odd_members_do_not_stop_the_others(store: OddStore, project: Path, tmp_path: Path) -> None:
    store.deliver(
        {
            skeleton(1): recorded.one_person(1, 4),
            "latin1.tar": archive_of({b"aufnahme\xfc/" + skeleton(2).encode(): recorded.one_person(2, 4)}),
            "out.tar": archive_of({b"../" + skeleton(3).encode(): recorded.one_person(3, 4)}),
            "empty.zip": b"PK\x05\x06" + bytes(18),
            "nothing.tar": b"",
        }
    )
    _, clips = take(project, tmp_path)
    assert clips is not None
    assert 1 in set(clips.index["subject"])
    again, _ = take(project, tmp_path)
    assert again.objects == 0


MODIFIED = "<LastModified>2026-01-01T00:00:00Z</LastModified>"
ENTRY = (
    "<ListBucketResult><Name>landing</Name><IsTruncated>false</IsTruncated>"
    "<Contents><Key>lab/a.skeleton</Key><Size>{size}</Size>{modified}</Contents></ListBucketResult>"
)
LISTINGS = {
    "an object without its size": ENTRY.replace("<Size>{size}</Size>", "").format(modified=MODIFIED).encode(),
    "an object without a date": ENTRY.format(size=1, modified="").encode(),
    "a size in words": ENTRY.format(size="many", modified=MODIFIED).encode(),
    "a date in words": ENTRY.format(size=1, modified=MODIFIED.replace("2026-01-01", "yesterday")).encode(),
    "a login page": b"<!DOCTYPE html><html><head><title>Hotel</title><body>Log in<br></body></html>",
    "a login page in XHTML": b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>Log</body></html>',
    "nothing": b"",
    "JSON": b'{"error": "log in"}',
    "another root": b'<?xml version="1.0"?><ListAllMyBucketsResult><Name>landing</Name></ListAllMyBucketsResult>',
}


@pytest.mark.fault("a captive portal answers instead of the bucket", "an error names the endpoint")
@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
def test_an_answer_that_is_no_listing_is_not_an_empty_bucket(store: OddStore, listing: bytes) -> None:
    store.listing = listing
    with pytest.raises(GltError, match="is not that of an object store") as caught:
        list_objects(ADDRESS)
    assert store.address in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("date", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_a_date_that_is_out_of_range_is_the_nearest_one(store: OddStore, date: str) -> None:
    store.listing = ENTRY.format(size=1, modified=f"<LastModified>{date}</LastModified>").encode()
    (found,) = list_objects(ADDRESS)
    assert found.modified.year in (dt.MINYEAR, dt.MAXYEAR)
    assert found.modified.tzinfo is not None


ENDLESS = "<ListBucketResult><Name>landing</Name><IsTruncated>true</IsTruncated>{token}</ListBucketResult>"


@pytest.mark.fault("a bucket listing that never ends", "an error within a bounded number of requests")
@pytest.mark.parametrize("token", ["", "<NextContinuationToken>same</NextContinuationToken>"])
def test_a_listing_without_an_end_is_an_error(store: OddStore, token: str) -> None:
    store.listing = ENDLESS.format(token=token).encode()
    with pytest.raises(GltError, match="the listing has no end"):
        list_objects(ADDRESS)


def test_a_listing_in_pages_is_complete(store: OddStore) -> None:
    store.page = 2
    store.deliver({f"{i} +%é": b"x" for i in range(7)})
    assert [one.name for one in list_objects(ADDRESS)] == [f"{i} +%é" for i in range(7)]


def test_an_etag_is_not_taken_for_a_hash(store: OddStore, project: Path, tmp_path: Path) -> None:
    store.deliver({skeleton(1): recorded.one_person(1, 4)})
    assert store.etag(b"lab/" + skeleton(1).encode()) != "md5"
    assert take(project, tmp_path)[0].clips == 1


@pytest.mark.parametrize("name", ["a" * 300, "../x.zip", "x\ny.tar", "..."])
def test_names_in_the_quarantine_are_bounded(name: str) -> None:
    short = quarantine.file_name(name)
    assert len(short) < 60
    assert quarantine.file_name("in/" + skeleton(1)) == "in/" + skeleton(1)


def test_in_a_folder_that_is_no_project_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(GltError, match=r"data\.dvc: no such file"):
        collection.collect(tmp_path, ADDRESS, RECIPE.data, Silent())
    assert not list(tmp_path.iterdir())
