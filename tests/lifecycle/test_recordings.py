"""The project's own recordings: data/ as data.dvc pins it, on real git and DVC repositories."""

import hashlib
import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from glt.data import sample
from glt.data.sample import recordings as generator
from glt.errors import GltError
from glt.lifecycle import dvc_hash, dvc_remote, recordings, sources
from tests.data.recorded import write_folder
from tests.lifecycle import odd_store
from tests.lifecycle.projects import commit, dvc

ROOT = Path(__file__).parents[2]


def unreachable(project: Path) -> None:
    config = project / ".dvc" / "config"
    config.write_text(
        "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://b\n    endpointurl = http://127.0.0.1:9\n"
    )


def pin_sample(project: Path, md5: str = sample.MD5) -> str:
    version = dvc_hash.listing_md5([(sample.ARCHIVE, md5)])
    (project / "data.dvc").write_text(
        f"outs:\n- md5: {version}\n  size: 33583443\n  nfiles: 1\n  hash: md5\n  path: data\n"
    )
    return version


def pinned(project: Path) -> str:
    return recordings.read_pin(project).md5


def test_this_repository_pins_the_sample_or_the_users_recordings_readably():
    assert recordings.read_pin(ROOT).md5.endswith(".dir")


def test_content_md5_is_dvcs(project):
    assert dvc_hash.content_md5(project / "data") == pinned(project)


def test_prepare_leaves_matching_data_alone_and_is_quick(project):
    recordings.prepare(project)
    started = time.perf_counter()
    assert recordings.prepare(project) == project / "data"
    assert time.perf_counter() - started < 0.5
    assert dvc_hash.content_md5(project / "data") == pinned(project)


def test_prepare_does_not_hash_twice_what_did_not_change(project, monkeypatch):
    recordings.prepare(project)
    monkeypatch.setattr(dvc_hash, "content_md5", lambda path: pytest.fail("hashed again"))
    recordings.prepare(project)


def test_prepare_pulls_from_a_remote_that_is_there(project):
    shutil.rmtree(project / "data")
    shutil.rmtree(project / ".dvc" / "cache")
    recordings.prepare(project)
    assert dvc_hash.content_md5(project / "data") == pinned(project)


@pytest.mark.parametrize("change", ["same size", "new file"])
def test_prepare_never_touches_changed_data(project, change):
    recordings.prepare(project)
    data = project / "data"
    if change == "same size":
        (data / "a.skeleton").write_bytes(b"eno")
        os.utime(data / "a.skeleton", ns=(1, 1))
    else:
        write_folder(data, {"mine.skeleton": b"mine"})
    before = dvc_hash.content_md5(data)
    with pytest.raises(GltError, match="make data RECORDINGS=data"):
        recordings.prepare(project)
    assert dvc_hash.content_md5(data) == before


def test_prepare_generates_the_sample_when_the_remote_is_away(project):
    shutil.rmtree(project / "data")
    unreachable(project)
    version = pin_sample(project)
    started = time.perf_counter()
    recordings.prepare(project)
    assert time.perf_counter() - started < 60
    assert dvc_hash.content_md5(project / "data") == version
    assert "modified" not in dvc(project, "status", "data.dvc")
    assert not list(project.glob(".data.*"))


def test_a_batch_is_added_where_all_others_are_though_the_remote_is_away(project, tmp_path):
    """As after a first `make run`: the recordings were generated, so no cache of DVC's has their listing."""
    unreachable(project)
    shutil.rmtree(project / ".dvc" / "cache", ignore_errors=True)
    before = {path.name for path in dvc_hash.list_files(project / "data")}
    done = recordings.add(project, write_folder(tmp_path / "new", {"week-47.zip": b"x"}) / "week-47.zip")
    assert not done.pushed
    assert done.version == dvc_hash.content_md5(project / "data") == sources.resolve(str(project / "data")).version
    assert done.version in (project / "data.dvc").read_text()
    assert {path.name for path in dvc_hash.list_files(project / "data")} == before | {"week-47.zip"}
    with pytest.raises(GltError, match=r"has a week-47\.zip already"):
        recordings.add(project, tmp_path / "new" / "week-47.zip")


def test_prepare_says_when_the_generator_gives_other_bytes(project, monkeypatch):
    shutil.rmtree(project / "data")
    unreachable(project)
    pin_sample(project)
    monkeypatch.setattr(generator, "recordings", lambda: iter([("S001C001P001R001A121.skeleton", b"other")]))
    with pytest.raises(GltError, match=r"generated here: content is .* expected"):
        recordings.prepare(project)
    assert not (project / "data").exists()


def test_prepare_says_what_to_do_when_other_recordings_are_out_of_reach(project):
    shutil.rmtree(project / "data")
    unreachable(project)
    started = time.perf_counter()
    with pytest.raises(GltError, match=r"127\.0\.0\.1:9 does not answer.*make the remote reachable"):
        recordings.prepare(project)
    assert time.perf_counter() - started < 40


def test_prepare_without_a_pin(tmp_path):
    with pytest.raises(GltError, match=r"data\.dvc: no such file"):
        recordings.prepare(tmp_path)


def test_a_damaged_pin_is_named(project):
    (project / "data.dvc").write_text("outs: []\n")
    with pytest.raises(GltError, match=r"data\.dvc: not a file that `dvc add data` wrote"):
        recordings.prepare(project)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_replace_pins_and_pushes_the_users_recordings(project, template, tmp_path, kind):
    mine = write_folder(tmp_path / "mine", {"x.skeleton": b"x", "y.skeleton": b"y"})
    given = mine if kind == "folder" else mine / "x.skeleton"
    result = recordings.replace(project, given)
    assert result.pushed
    assert result.version == pinned(project) == dvc_hash.content_md5(project / "data")
    assert [p.name for p in (project / "data").iterdir()] == [given.name]
    assert (mine / "x.skeleton").read_bytes() == b"x"
    assert "up to date" in dvc(project, "status", "data.dvc")
    listing = template / "remote" / "files" / "md5" / result.version[:2] / result.version[2:]
    assert len(json.loads(listing.read_text())) == sum(p.is_file() for p in (project / "data").rglob("*"))
    assert (project / ".gitignore").read_text() == "/data/\n"
    assert not list(project.glob(".data.*"))


def test_replace_works_without_the_remote_and_says_so(project, tmp_path):
    unreachable(project)
    result = recordings.replace(project, write_folder(tmp_path / "mine", {"x.skeleton": b"x"}))
    assert not result.pushed
    assert "does not answer" in result.reason
    assert recordings.prepare(project) == project / "data"


def test_replace_refuses_to_lose_unpinned_changes(project, tmp_path):
    write_folder(project / "data", {"mine.skeleton": b"mine"})
    with pytest.raises(GltError, match=r"changes that .* does not pin"):
        recordings.replace(project, write_folder(tmp_path / "other", {"x.skeleton": b"x"}))
    assert (project / "data" / "mine.skeleton").read_bytes() == b"mine"
    first = pinned(project)
    assert recordings.replace(project, project / "data").version != first
    recordings.replace(project, tmp_path / "other")
    assert (project / "data" / "other" / "x.skeleton").read_bytes() == b"x"


def test_replaced_recordings_are_in_the_cache_although_they_were_copied_by_hand(project, tmp_path):
    cache = project / ".dvc" / "cache" / "files" / "md5"
    hashes = [dvc_hash.file_md5(file) for file in (project / "data").rglob("*") if file.is_file()]
    shutil.rmtree(project / ".dvc" / "cache")
    recordings.replace(project, write_folder(tmp_path / "other", {"x.skeleton": b"x"}))
    assert hashes
    assert all((cache / md5[:2] / md5[2:]).is_file() for md5 in hashes)


def test_replace_refuses_to_lose_a_file_named_data(project, tmp_path):
    shutil.rmtree(project / "data")
    (project / "data").write_text("mine")
    with pytest.raises(GltError, match=r"data is a link or a file, and would be lost; move it away"):
        recordings.replace(project, write_folder(tmp_path / "other", {"x.skeleton": b"x"}))
    assert (project / "data").read_text() == "mine"


def test_replace_that_fails_changes_nothing(project, tmp_path):
    before, pin = dvc_hash.content_md5(project / "data"), (project / "data.dvc").read_bytes()
    shutil.rmtree(project / ".git")
    with pytest.raises(GltError, match="`dvc add data` failed"):
        recordings.replace(project, write_folder(tmp_path / "mine", {"x.skeleton": b"x"}))
    assert dvc_hash.content_md5(project / "data") == before
    assert (project / "data.dvc").read_bytes() == pin
    assert not list(project.glob(".data.*"))


@pytest.mark.parametrize("given", ["missing", "project", "project/data/deep"])
def test_replace_refuses_impossible_recordings(project, tmp_path, given):
    with pytest.raises(GltError, match=given):
        recordings.replace(project, tmp_path / given)
    assert dvc_hash.content_md5(project / "data") == pinned(project)


PATHS = ["../out.skeleton", "a/../../out.skeleton", "/tmp/glt-out.skeleton", "a//b.skeleton", "..\\out", "C:\\out", ""]


@pytest.mark.fault("a listing on DVC's remote with `..`, an absolute path or a file below a file", "nothing is pulled")
@pytest.mark.parametrize("path", [*PATHS, "a.skeleton/b"])
def test_a_listing_that_leads_out_is_named(path):
    entries = [{"md5": "0" * 32, "relpath": name} for name in ("a.skeleton", path)]
    with pytest.raises(GltError, match=r"its listing on the DVC remote names"):
        dvc_remote._check_paths(json.dumps(entries).encode(), "recordings")


@pytest.mark.fault("a listing on DVC's remote with `..`", "nothing is pulled, nothing is written outside")
@pytest.mark.parametrize("way", ["prepare", "revision"])
def test_nothing_is_pulled_by_a_listing_that_leads_out(project, tmp_path, way):
    shutil.copytree(Path(dvc_remote.address(project)), tmp_path / "remote")
    (project / ".dvc" / "config").write_text(
        f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {tmp_path / 'remote'}\n"
    )
    listing = json.dumps([{"md5": dvc_hash.file_md5(project / "data" / "a.skeleton"), "relpath": "../../out.skeleton"}])
    md5 = hashlib.md5(listing.encode()).hexdigest()
    file = tmp_path / "remote" / "files" / "md5" / md5[:2] / f"{md5[2:]}.dir"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(listing)
    (project / "data.dvc").write_text(f"outs:\n- md5: {md5}.dir\n  size: 3\n  nfiles: 1\n  hash: md5\n  path: data\n")
    shutil.rmtree(project / "data")
    shutil.rmtree(project / ".dvc" / "cache")
    commit(project, "bad")
    pull = {
        "prepare": lambda: recordings.prepare(project),
        "revision": lambda: sources.resolve(f"dvc+{project}@bad").fetch(tmp_path / "work" / "deep"),
    }
    with pytest.raises(GltError, match=r"which leads out of the folder"):
        pull[way]()
    assert not list(tmp_path.rglob("out.skeleton"))


@pytest.mark.fault("the DVC remote is behind a proxy (HTTP_PROXY)", "it is reached through the proxy")
def test_the_remote_is_asked_through_the_proxy(project, monkeypatch):
    """The store's name is known to the proxy alone."""
    config = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://landing/dvc\n"
    (project / ".dvc" / "config").write_text(f"{config}    endpointurl = http://store.invalid:8333\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with odd_store.running() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("http_proxy", proxy.address)
        assert recordings.remote_problem(project) == ""
        assert proxy.requests


@pytest.mark.fault(
    "NFD names, empty folders, links or ignored files in data/", "the data version is the one that DVC computes"
)
def test_content_md5_is_dvcs_whatever_the_names(project, tmp_path):
    data = project / "data"
    write_folder(
        data, {"cafe\u0301.skeleton": b"1", "caf\u00e9.skeleton": b"2", "notes/a.tmp": b"3", "new\nline": b"4"}
    )
    (data / "empty").mkdir()
    (data / "link").symlink_to(write_folder(tmp_path / "elsewhere", {"linked.skeleton": b"6"}))
    (data / "one").symlink_to(tmp_path / "elsewhere" / "linked.skeleton")
    (project / ".dvcignore").write_text("# of the lab\n*.tmp\n")
    dvc(project, "add", "data")
    assert dvc_hash.content_md5(data) == pinned(project)
    assert recordings.read_pin(project).files == len(dvc_hash.list_files(data)) == 6
    assert not [file for file in dvc_hash.list_files(data) if file.suffix == ".tmp"]
    assert recordings.prepare(project) == data


@pytest.mark.fault("the DVC remote accepts connections and never answers", "reported after a time limit")
def test_a_remote_that_hangs_is_given_up(project, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://landing/dvc\n"
        (project / ".dvc" / "config").write_text(
            f"{config}    endpointurl = http://127.0.0.1:{server.getsockname()[1]}\n"
        )
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setattr(dvc_remote, "_SECONDS", 4)
        assert recordings.remote_problem(project).endswith("does not answer within 4 s")


@pytest.mark.fault("recordings are pinned in a folder without DVC", "an error, and no data/ is left behind")
def test_a_folder_without_dvc_stays_as_it_was(tmp_path: Path) -> None:
    given = write_folder(tmp_path / "given", {"x.skeleton": b"x"})
    (tmp_path / "project").mkdir()
    with pytest.raises(GltError, match="check that it is a git repository with"):
        recordings.replace(tmp_path / "project", given)
    assert list((tmp_path / "project").iterdir()) == []
