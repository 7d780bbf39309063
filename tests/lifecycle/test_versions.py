"""Data and code versions, credentials, addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from glt.errors import GltError
from glt.lifecycle import code_version, dvc_hash, sources
from glt.lifecycle.code_version import current_code_version
from glt.lifecycle.credentials import with_credentials
from glt.lifecycle.sources import address
from tests.data.recorded import write_folder


def test_content_md5_of_a_file_is_its_md5(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert dvc_hash.content_md5(tmp_path / "file") == "900150983cd24fb0d6963f7d28e17f72"


def test_content_md5_sees_names_and_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    write_folder(folder, {"a.skeleton": b"one", "deep/b.skeleton": b"two"})
    first = dvc_hash.content_md5(folder)
    (folder / "a.skeleton").rename(folder / "c.skeleton")
    renamed = dvc_hash.content_md5(folder)
    (folder / "c.skeleton").write_bytes(b"other")
    assert len({first, renamed, dvc_hash.content_md5(folder)}) == 3


def test_content_that_is_not_what_was_pinned_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    dvc_hash.verify(tmp_path / "file", "900150983cd24fb0d6963f7d28e17f72", "it")
    with pytest.raises(GltError, match="it: content is 900150983cd24fb0d6963f7d28e17f72, expected 0123"):
        dvc_hash.verify(tmp_path / "file", "0123", "it")


def test_code_version_follows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, {"glt/__init__.py": b"", "glt/a.py": b"1", "components/c.py": b"2", "glt/notes.md": b""})
    monkeypatch.setattr(code_version.glt, "__file__", str(tmp_path / "glt" / "__init__.py"))
    first = current_code_version()
    (tmp_path / "glt" / "notes.md").write_bytes(b"no code")
    assert current_code_version() == first
    (tmp_path / "components" / "c.py").write_bytes(b"3")
    assert current_code_version() != first
    assert len(first) == 12
    monkeypatch.setenv("GLT_CODE_VERSION", "fixed")
    assert current_code_version() == "fixed"


def test_addresses_stay_as_they_are_and_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert address.absolute("s3://bucket/prefix") == "s3://bucket/prefix"
    assert address.absolute("dvc+../lab@main") == "dvc+../lab@main"
    assert address.absolute("data") == str(tmp_path / "data")


@pytest.mark.parametrize(
    "recordings",
    [
        "dvc+https://me:secret@host/x.git@main",
        "dvc+https://secret@host/x.git@main",
        "dvc+https://me:secret@host/x.git",
        "dvc+https://me:sec/ret:secret@host/x.git@main",
        "dvc+https://me:s@secret@host:80/x.git@main",
        "dvc+ssh://me:secret@host/x.git@main",
        "DVC+HTTPS://me:secret@host/x.git@main",
        " https://me:secret@host/x.git",
        "https://me:secret@host/x.git",
        "s3://key:secret@bucket/x",
    ],
)
def test_an_address_with_an_account_is_refused_without_showing_it(recordings: str) -> None:
    for read in (sources.resolve, address.check_remote, address.repository_and_revision):
        with pytest.raises(GltError, match="must not hold an account; take it out, and set GLT_GIT_USER") as caught:
            read(recordings)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "recordings",
    [
        "s3://bucket/prefix",
        "s3://bucket/a@b:c",
        "dvc+https://host:8443/a@b/x.git@main",
        "dvc+https://[::1]:80/x.git@v1",
        "dvc+ssh://git@host:22/x.git@main",
        "dvc+git@host:lab/x.git@main",
    ],
)
def test_an_address_that_a_cluster_can_read_is_taken(recordings: str) -> None:
    address.check_remote(recordings)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://host/x.git", "https://robot:a%2Fb@host/x.git"),
        ("http://host/x.git", "http://host/x.git"),
        ("http://localhost:3000/x.git", "http://robot:a%2Fb@localhost:3000/x.git"),
        ("http://127.0.0.1.evil.org/x.git", "http://127.0.0.1.evil.org/x.git"),
        ("https://me:mine@host/x.git", "https://me:mine@host/x.git"),
        ("ssh://git@host/x.git", "ssh://git@host/x.git"),
        ("/srv/x.git", "/srv/x.git"),
    ],
)
def test_a_token_goes_only_where_it_is_needed(url: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLT_GIT_TOKEN", raising=False)
    assert with_credentials(url) == url
    monkeypatch.setenv("GLT_GIT_USER", "robot")
    monkeypatch.setenv("GLT_GIT_TOKEN", "a/b")
    monkeypatch.setenv("GLT_GIT_HOST", "host")
    assert with_credentials(url) == asked


@pytest.mark.fault("GLT_GIT_TOKEN is set, and the recordings' address names another git host", "the token is not sent")
@pytest.mark.parametrize(
    ("hosts", "url", "sent"),
    [
        ("git.lab", "https://git.lab/x.git", True),
        ("git.lab", "https://GIT.LAB:8443/x.git", True),
        ("git.lab:8443, other.lab", "https://git.lab:8443/x.git", True),
        ("git.lab:8443", "https://git.lab/x.git", False),
        ("git.lab", "https://git.lab.evil.org/x.git", False),
        ("git.lab", "https://evil.org/git.lab/x.git", False),
        ("", "https://git.lab/x.git", False),
        ("", "http://127.0.0.1:8000/x.git", True),
    ],
)
def test_a_token_goes_to_its_host_only(hosts: str, url: str, sent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_GIT_TOKEN", "secret")
    monkeypatch.setenv("GLT_GIT_HOST", hosts)
    assert ("secret" in with_credentials(url)) is sent
