"""Data and code versions, on real git and DVC repositories."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from glt.data import sample
from glt.data.sample import recordings as generator
from glt.errors import GltError
from glt.lifecycle import recordings, versions
from tests.lifecycle import projects
from tests.lifecycle.projects import commit, dvc

ROOT = Path(__file__).parents[2]
RECORDINGS = {"a.skeleton": b"one", "deep/b.skeleton": b"two"}


def write(folder: Path, recordings: dict[str, bytes]) -> Path:
    for name, content in recordings.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def _quiet_dvc(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A project whose revision v1 pins RECORDINGS, pushed to a remote in a folder."""
    base = tmp_path_factory.mktemp("template")
    (base / "remote").mkdir()
    projects.make(base / "project", str(base / "remote"), RECORDINGS)
    return base


@pytest.fixture
def project(template, tmp_path) -> Path:
    """The template's project as a copy of its own; the remote is shared."""
    return Path(shutil.copytree(template / "project", tmp_path / "project"))


def unreachable(project: Path) -> None:
    config = project / ".dvc" / "config"
    config.write_text(
        "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://b\n    endpointurl = http://127.0.0.1:9\n"
    )


def pin_sample(project: Path, md5: str = sample.MD5) -> str:
    version = versions.listing_md5([(sample.ARCHIVE, md5)])
    (project / "data.dvc").write_text(
        f"outs:\n- md5: {version}\n  size: 33583443\n  nfiles: 1\n  hash: md5\n  path: data\n"
    )
    return version


def pinned(project: Path) -> str:
    return recordings._read_pin(project)["md5"]


def test_this_repository_pins_the_sample_or_the_users_recordings_readably():
    assert recordings._read_pin(ROOT)["md5"].endswith(".dir")


def test_content_md5_is_dvcs(project):
    assert versions.content_md5(project / "data") == pinned(project)


def test_content_md5_of_a_file_is_its_md5(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert versions.content_md5(tmp_path / "file") == "900150983cd24fb0d6963f7d28e17f72"


def test_content_md5_sees_names_and_bytes(tmp_path):
    folder = write(tmp_path / "x", RECORDINGS)
    first = versions.content_md5(folder)
    (folder / "a.skeleton").rename(folder / "c.skeleton")
    renamed = versions.content_md5(folder)
    (folder / "c.skeleton").write_bytes(b"other")
    assert len({first, renamed, versions.content_md5(folder)}) == 3


def test_code_version_follows_the_sources(tmp_path, monkeypatch):
    write(tmp_path, {"glt/__init__.py": b"", "glt/a.py": b"1", "components/c.py": b"2", "glt/notes.md": b""})
    monkeypatch.setattr(versions.glt, "__file__", str(tmp_path / "glt" / "__init__.py"))
    first = versions.code_version()
    (tmp_path / "glt" / "notes.md").write_bytes(b"no code")
    assert versions.code_version() == first
    (tmp_path / "components" / "c.py").write_bytes(b"3")
    assert versions.code_version() != first
    assert len(first) == 12
    monkeypatch.setenv("GLT_CODE_VERSION", "fixed")
    assert versions.code_version() == "fixed"


def test_addresses_stay_as_they_are_and_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert versions.located("s3://bucket/prefix") == "s3://bucket/prefix"
    assert versions.located("dvc+../lab@main") == "dvc+../lab@main"
    assert versions.located("data") == str(tmp_path / "data")


def test_data_version_of_a_revision(project):
    first = pinned(project)
    write(project / "data", {"new.skeleton": b"three"})
    recordings.replace(project, project / "data")
    commit(project, "v2")
    assert versions.data_version(f"dvc+{project}@v1") == first
    assert versions.data_version(f"dvc+{project}@v2") == pinned(project) != first
    assert versions.data_version(str(project / "data")) == pinned(project)


def test_fetch_brings_a_revision(project, tmp_path):
    place = versions.fetch(f"dvc+{project}@v1", tmp_path / "work")
    assert {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*.skeleton")} == RECORDINGS
    assert versions.fetch(str(place), tmp_path / "other") == place
    stamp = place.stat().st_mtime_ns
    assert versions.fetch(f"dvc+{project}@v1", tmp_path / "work").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("recordings", "message"),
    [
        ("dvc+nowhere", r"write dvc\+<git repository>@"),
        ("dvc+git@example.org:team/data.git", r"write dvc\+<git repository>@"),
        ("dvc+{project}@v9", "cannot read data.dvc"),
        ("dvc+{project}/missing@v1", "cannot read data.dvc"),
        ("{project}/missing", "no such file or folder"),
    ],
)
def test_wrong_recordings_are_named(project, tmp_path, recordings, message):
    recordings = recordings.format(project=project)
    for call in (versions.data_version, lambda r: versions.fetch(r, tmp_path / "work")):
        with pytest.raises(GltError, match=message) as caught:
            call(recordings)
        assert recordings in str(caught.value)
    assert not (tmp_path / "work" / "data").exists()


def test_fetch_without_the_objects_leaves_nothing(project, tmp_path):
    (project / ".dvc" / "config").write_text(
        f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {tmp_path / 'empty'}\n"
    )
    shutil.rmtree(project / ".dvc" / "cache")
    commit(project, "v2")
    with pytest.raises(GltError, match="cannot be downloaded"):
        versions.fetch(f"dvc+{project}@v2", tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_prepare_leaves_matching_data_alone_and_is_quick(project):
    recordings.prepare(project)
    started = time.perf_counter()
    assert recordings.prepare(project) == project / "data"
    assert time.perf_counter() - started < 0.5
    assert versions.content_md5(project / "data") == pinned(project)


def test_prepare_does_not_hash_twice_what_did_not_change(project, monkeypatch):
    recordings.prepare(project)
    monkeypatch.setattr(versions, "content_md5", lambda path: pytest.fail("hashed again"))
    recordings.prepare(project)


def test_prepare_pulls_from_a_remote_that_is_there(project):
    shutil.rmtree(project / "data")
    shutil.rmtree(project / ".dvc" / "cache")
    recordings.prepare(project)
    assert versions.content_md5(project / "data") == pinned(project)


@pytest.mark.parametrize("change", ["same size", "new file"])
def test_prepare_never_touches_changed_data(project, change):
    recordings.prepare(project)
    data = project / "data"
    if change == "same size":
        (data / "a.skeleton").write_bytes(b"eno")
        os.utime(data / "a.skeleton", ns=(1, 1))
    else:
        write(data, {"mine.skeleton": b"mine"})
    before = versions.content_md5(data)
    with pytest.raises(GltError, match="make data RECORDINGS=data"):
        recordings.prepare(project)
    assert versions.content_md5(data) == before


def test_prepare_generates_the_sample_when_the_remote_is_away(project):
    shutil.rmtree(project / "data")
    unreachable(project)
    version = pin_sample(project)
    started = time.perf_counter()
    recordings.prepare(project)
    assert time.perf_counter() - started < 60
    assert versions.content_md5(project / "data") == version
    assert "modified" not in dvc(project, "status", "data.dvc")
    assert not list(project.glob(".data.*"))


def test_a_batch_is_added_where_all_others_are_though_the_remote_is_away(project, tmp_path):
    """As after a first `make run`: the recordings were generated, so no cache of DVC's has their listing."""
    unreachable(project)
    shutil.rmtree(project / ".dvc" / "cache", ignore_errors=True)
    before = {path.name for path in versions.files(project / "data")}
    done = recordings.add(project, write(tmp_path / "new", {"week-47.zip": b"x"}) / "week-47.zip")
    assert not done.pushed
    assert done.version == versions.content_md5(project / "data") == versions.data_version(str(project / "data"))
    assert done.version in (project / "data.dvc").read_text()
    assert {path.name for path in versions.files(project / "data")} == before | {"week-47.zip"}
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
    assert time.perf_counter() - started < 5


def test_prepare_without_a_pin(tmp_path):
    with pytest.raises(GltError, match=r"data\.dvc: no such file"):
        recordings.prepare(tmp_path)


def test_a_damaged_pin_is_named(project):
    (project / "data.dvc").write_text("outs: []\n")
    with pytest.raises(GltError, match=r"data\.dvc: not a file that `dvc add data` wrote"):
        recordings.prepare(project)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_replace_pins_and_pushes_the_users_recordings(project, template, tmp_path, kind):
    mine = write(tmp_path / "mine", {"x.skeleton": b"x", "y.skeleton": b"y"})
    given = mine if kind == "folder" else mine / "x.skeleton"
    result = recordings.replace(project, given)
    assert result.pushed
    assert result.version == pinned(project) == versions.content_md5(project / "data")
    assert [p.name for p in (project / "data").iterdir()] == [given.name]
    assert (mine / "x.skeleton").read_bytes() == b"x"
    assert "up to date" in dvc(project, "status", "data.dvc")
    listing = template / "remote" / "files" / "md5" / result.version[:2] / result.version[2:]
    assert len(json.loads(listing.read_text())) == sum(p.is_file() for p in (project / "data").rglob("*"))
    assert (project / ".gitignore").read_text() == "/data/\n"
    assert not list(project.glob(".data.*"))


def test_replace_works_without_the_remote_and_says_so(project, tmp_path):
    unreachable(project)
    result = recordings.replace(project, write(tmp_path / "mine", {"x.skeleton": b"x"}))
    assert not result.pushed
    assert "does not answer" in result.reason
    assert recordings.prepare(project) == project / "data"


def test_replace_refuses_to_lose_unpinned_changes(project, tmp_path):
    write(project / "data", {"mine.skeleton": b"mine"})
    with pytest.raises(GltError, match=r"changes that .* does not pin"):
        recordings.replace(project, write(tmp_path / "other", {"x.skeleton": b"x"}))
    assert (project / "data" / "mine.skeleton").read_bytes() == b"mine"
    first = pinned(project)
    assert recordings.replace(project, project / "data").version != first
    recordings.replace(project, tmp_path / "other")
    assert (project / "data" / "other" / "x.skeleton").read_bytes() == b"x"


def test_replace_that_fails_changes_nothing(project, tmp_path):
    before, pin = versions.content_md5(project / "data"), (project / "data.dvc").read_bytes()
    shutil.rmtree(project / ".git")
    with pytest.raises(GltError, match="`dvc add data` failed"):
        recordings.replace(project, write(tmp_path / "mine", {"x.skeleton": b"x"}))
    assert versions.content_md5(project / "data") == before
    assert (project / "data.dvc").read_bytes() == pin
    assert not list(project.glob(".data.*"))


@pytest.mark.parametrize("given", ["missing", "project", "project/data/deep"])
def test_replace_refuses_impossible_recordings(project, tmp_path, given):
    with pytest.raises(GltError, match=given):
        recordings.replace(project, tmp_path / given)
    assert versions.content_md5(project / "data") == pinned(project)
