"""What was delivered to a bucket on a real S3 server, taken into real git and DVC repositories."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.errors import GltError
from glt.lifecycle import collection, recordings, sources
from glt.lifecycle.sources.bucket import list_objects
from glt.reporter import Silent
from glt.steps.collect import collect
from tests.data import recorded
from tests.data.test_table import parquet, tidy
from tests.lifecycle.projects import commit, run

ADDRESS = "s3://landing/lab"
RECIPE = recorded.recipe()
GOOD = {f"day1/S001C001P{p:03}R001A001.skeleton": recorded.one_person(p, 4) for p in (1, 2, 3)}
BAD = b"2\nnot a number\n"


def deliver(client: Any, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        client.put_object(Bucket="landing", Key=f"lab/{name}", Body=content)


def zip_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def members(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def quarantine(client: Any) -> dict[str, bytes]:
    found = client.list_objects_v2(Bucket="landing", Prefix="quarantine/").get("Contents", ())
    return {e["Key"]: client.get_object(Bucket="landing", Key=e["Key"])["Body"].read() for e in found}


def collect_into(root: Path) -> collection.CollectionResult:
    """Collect, and ingest the batch: what was collected can always be."""
    done = collection.collect(root, ADDRESS, RECIPE.data, Silent())
    if done.batch:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            ingest(root / "data" / done.batch, RECIPE, out / "clips", {}, Silent(), out / "segments")
            assert len(ClipStore(out / "clips").index) == done.clips
    return done


def test_good_files_are_packed_and_bad_ones_quarantined_with_the_reason(
    bucket: Any, cloned: Callable[[str], Path]
) -> None:
    root = cloned("clone")
    inside = {
        "in/S001C001P004R001A002.skeleton": recorded.one_person(4),
        "in/S001C001P005R001A002.skeleton": BAD,
    }
    cut = zip_of(inside)[:99]
    deliver(
        bucket,
        {
            **{**GOOD, "S001C001P006R001A001.skeleton": BAD, "week.zip": zip_of(inside), "cut.zip": cut},
            **{"readme.txt": b"hello", ".hidden.skeleton": BAD},
        },
    )
    done = collect_into(root)
    assert (done.objects, done.clips, done.push_error) == (7, 4, "")
    assert members(root / "data" / done.batch) == {
        **GOOD,
        "week.zip/in/S001C001P004R001A002.skeleton": inside["in/S001C001P004R001A002.skeleton"],
    }
    held = quarantine(bucket)
    kept = {key.split("/files/")[1]: content for key, content in held.items() if "/files/" in key}
    assert kept == {
        "S001C001P006R001A001.skeleton": BAD,
        "in/S001C001P005R001A002.skeleton": BAD,
        "cut.zip": cut,
        "readme.txt": b"hello",
    }
    said = {key.split("/")[2]: json.loads(content) for key, content in held.items() if "/files/" not in key}
    assert said.keys() == {"S001C001P006R001A001.skeleton", "week.zip", "cut.zip", "readme.txt"}
    assert said["week.zip"]["clips"] == 1
    assert said["week.zip"]["rejected"][0]["file"] == "in/S001C001P005R001A002.skeleton"
    assert all(entry["rejected"][0]["reason"] for entry in said.values())
    assert {check for _, check, _ in done.rejected} >= {"no-recording", "unreadable"}
    assert {place.removeprefix("s3://landing/") for place, _, _ in done.rejected} == {k for k in held if "/files/" in k}

    again = collect_into(root)
    assert (again.objects, again.batch, again.version) == (0, "", done.version)
    assert quarantine(bucket) == held


def test_a_verdict_that_an_earlier_version_wrote_still_holds(bucket: Any, cloned: Callable[[str], Path]) -> None:
    root = cloned("clone")
    deliver(bucket, {"S001C001P006R001A001.skeleton": BAD})
    assert len(collect_into(root).rejected) == 1
    (key,) = (key for key in quarantine(bucket) if "/files/" not in key)
    assert "/rejected-" in key
    bucket.put_object(Bucket="landing", Key=key.replace("/rejected-", "/refused-"), Body=b"{}")
    bucket.delete_object(Bucket="landing", Key=key)
    assert collect_into(root).objects == 0


def test_the_next_call_takes_what_came_since_and_no_other_recordings_are_needed(
    bucket: Any, cloned: Callable[[str], Path]
) -> None:
    root = cloned("clone")
    deliver(bucket, GOOD)
    first = collect_into(root)
    commit(root, "week-1")
    run(root, "git", "push", "-q", "origin", "HEAD")
    changed = recorded.one_person(77)
    deliver(bucket, {"day2/S001C001P007R001A001.skeleton": recorded.one_person(7), next(iter(GOOD)): changed})
    other = cloned("other")
    second = collect_into(other)
    assert members(other / "data" / second.batch) == {"day2/S001C001P007R001A001.skeleton": recorded.one_person(7)}
    assert [row.check for row in second.rejected] == ["duplicate"]  # it has the name of one in data/
    assert {file.name for file in (other / "data").iterdir()} == {second.batch, f".{second.batch[:-4]}.json"}
    held = recordings.pinned_files(other)
    assert {first.batch, second.batch, "first/S001C001P009R001A001.skeleton"} <= held.keys()
    assert list(collection.ledgers(other)) == sorted([first.batch, second.batch])
    assert collect_into(other).objects == 0


def test_the_first_batch_takes_the_place_of_the_sample_recordings(bucket: Any, cloned: Callable[[str], Path]) -> None:
    """In a clone that is fresh: data/ is not there, and no remote has the list of what was generated."""
    root = cloned("clone")
    (root / "data.dvc").write_bytes((Path(__file__).parents[2] / "data.dvc").read_bytes())
    assert recordings.pinned_version(root) == recordings.sample_version()
    deliver(bucket, GOOD)
    done = collect_into(root)
    assert (done.clips, done.push_error) == (len(GOOD), "")
    assert recordings.pinned_files(root).keys() == {done.batch, f".{done.batch[:-4]}.json"}


def test_two_persons_take_the_same_bytes_and_the_second_push_is_rejected(
    bucket: Any, origin: str, cloned: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(bucket, GOOD)
    one, two = cloned("one"), cloned("two")
    (a, b) = collect_into(one), collect_into(two)
    assert a == b
    assert (one / "data" / a.batch).read_bytes() == (two / "data" / b.batch).read_bytes()
    commit(two, "mine")
    run(two, "git", "push", "-q", "origin", "HEAD")
    from glt.lifecycle import repository

    repository.commit(one, "also mine")
    with pytest.raises(GltError, match="somebody else has pushed"):
        repository.push(one, origin, "main")
    recipe = RECIPE.to_json()
    assert (
        collect(ADDRESS, recipe, f"dvc+{origin}@main") == f"dvc+{origin}@{run(two, 'git', 'rev-parse', 'HEAD').strip()}"
    )


def test_the_step_clones_commits_and_pushes(bucket: Any, origin: str, cloned: Callable[[str], Path]) -> None:
    deliver(bucket, GOOD)
    found = collect(ADDRESS, RECIPE.to_json(), f"dvc+{origin}@main")
    root = cloned("after")
    assert found == f"dvc+{origin}@{run(root, 'git', 'rev-parse', 'HEAD').strip()}"
    assert run(root, "git", "show", "--stat", "--format=%s").split()[:3] == ["Recordings", "from", f"{ADDRESS}:"]
    assert run(root, "git", "diff", "--name-only", "HEAD~1").split() == ["data.dvc"]
    assert collect(ADDRESS, RECIPE.to_json(), f"dvc+{origin}@main") == found


def test_in_the_project_here_the_new_pin_is_printed_or_committed(
    bucket: Any, cloned: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = cloned("clone")
    monkeypatch.chdir(root)
    deliver(bucket, GOOD)
    version = collect(ADDRESS, RECIPE.to_json())
    assert version in capsys.readouterr().out
    (root / "other").write_text("x")
    run(root, "git", "add", "other")
    with pytest.raises(GltError, match="other is staged"):
        collect(ADDRESS, RECIPE.to_json(), commit=True)
    run(root, "git", "reset", "-q", "other")
    assert collect(ADDRESS, RECIPE.to_json(), commit=True) == version
    assert f"data.dvc is committed: {run(root, 'git', 'rev-parse', 'HEAD')[:10]}" in capsys.readouterr().err
    assert run(root, "git", "status", "--porcelain", "--untracked-files=no") == ""


def test_sidecars_come_along_and_late_ones_are_reported(bucket: Any, cloned: Callable[[str], Path]) -> None:
    root, data = cloned("clone"), recorded.recipe("table").data
    frames = np.random.default_rng(0).normal(1, 0.3, (4, 1, 15, 3)).astype(np.float32)
    table = parquet(tidy(frames, np.ones((4, 1), bool)))
    layout = {"a/skeleton.yaml": b"layout: sbu15\n", "b/skeleton.yaml": b"layout: sbu15\n"}
    deliver(bucket, {"a/deep/one.parquet": table, **layout})
    done = collection.collect(root, ADDRESS, data, Silent())
    assert (done.clips, done.rejected, done.late_sidecars) == (1, (), ())
    assert members(root / "data" / done.batch) == {
        "a/deep/one.parquet": table,
        "a/skeleton.yaml": layout["a/skeleton.yaml"],
    }
    deliver(bucket, {"a/labels.csv": b"file,label\none,jump\n", "b/labels.csv": b""})
    assert collection.collect(root, ADDRESS, data, Silent()).late_sidecars == (f"{ADDRESS}/a/labels.csv",)
    for name in ("skeleton.yaml", "labels.csv"):  # what was fetched once and is gone from the bucket does not count
        bucket.delete_object(Bucket="landing", Key=f"lab/a/{name}")
    deliver(bucket, {"a/deep/two.parquet": table})
    after = collection.collect(root, ADDRESS, data, Silent())
    assert (after.objects, after.clips, len(after.rejected)) == (1, 0, 1)


def test_what_the_archive_gives_is_what_was_delivered(
    bucket: Any, cloned: Callable[[str], Path], tmp_path: Path
) -> None:
    root = cloned("clone")
    deliver(bucket, {**GOOD, "week.zip": zip_of({"in/S001C001P004R001A002.skeleton": recorded.one_person(4)})})
    done = collect_into(root)
    names = []
    for place in (sources.resolve(ADDRESS).fetch(tmp_path / "as-delivered"), root / "data" / done.batch):
        ingest(place, RECIPE, tmp_path / "clips", {}, Silent(), tmp_path / "segments")
        names.append(ClipStore(tmp_path / "clips").index[["name", "sha256"]].sort_values("name").to_numpy().tolist())
    assert names[0] == names[1]
    assert len(names[0]) == done.clips == 4


def test_more_objects_than_a_page_of_the_listing(bucket: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: deliver(bucket, {f"{n:04}.skeleton": b"x"}), range(1003)))
    assert len(bucket.list_objects_v2(Bucket="landing")["Contents"]) == 1000
    assert [found.name for found in list_objects(ADDRESS)] == [f"{n:04}.skeleton" for n in range(1003)]


MOMENTS: dict[str, Callable[[Path, Any], bool]] = {
    "rejected files are being quarantined": lambda root, client: bool(quarantine(client)),
    "the archive stands in data/": lambda root, client: any((root / "data").glob("*.zip")),
    "data.dvc is written": lambda root, client: "nfiles: 1\n" not in (root / "data.dvc").read_text(),
}


@pytest.mark.fault("`collect` is killed at any moment", "the next call ends with the same result")
@pytest.mark.stack
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_and_run_again_it_ends_the_same(
    bucket: Any, cloned: Callable[[str], Path], tmp_path: Path, moment: str
) -> None:
    root = cloned("clone")
    deliver(bucket, {**GOOD, "bad/S001C001P006R001A001.skeleton": BAD})
    (tmp_path / "recipe.yaml").write_text(RECIPE.to_json())
    command = [sys.executable, "-m", "glt", "collect", ADDRESS, str(tmp_path / "recipe.yaml"), "--commit"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not MOMENTS[moment](root, bucket):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (batch,) = collection.ledgers(root)
    assert members(root / "data" / batch) == GOOD
    assert len(quarantine(bucket)) == 2
    assert run(root, "git", "status", "--porcelain", "--untracked-files=no") == ""
    assert {file.name for file in (root / "data").iterdir() if file.is_file()} == {batch, f".{batch[:-4]}.json"}
    assert not (root / ".dvc" / "tmp" / "glt-collect").exists()
    run(root, sys.executable, "-m", "dvc", "pull", "-q")
    assert recordings.prepare(root) == root / "data"


@pytest.fixture
def over_http(origin: str, tmp_path: Path) -> Iterator[str]:
    """The repository behind git's own HTTP server, which lets in `robot` with the token `s3cret/token` only."""
    run(Path(origin), "git", "config", "http.receivepack", "true")
    backend = Path(run(tmp_path, "git", "--exec-path").strip()) / "git-http-backend"
    wanted = "Basic " + base64.b64encode(b"robot:s3cret/token").decode()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            if self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            environment = {
                **{"GIT_PROJECT_ROOT": str(tmp_path), "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "robot"},
                **{"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command},
                **{"CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(asked))},
                **{"HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "PATH": os.environ["PATH"]},
            }
            said = subprocess.run([backend], input=asked, env=environment, capture_output=True, check=True).stdout
            head, _, body = said.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
            for name, value in {**fields, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/origin.git"
    server.shutdown()


def test_a_private_repository_is_asked_with_the_token_and_the_token_is_never_printed(
    bucket: Any, over_http: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLT_GIT_USER", "robot")
    monkeypatch.setenv("GLT_GIT_TOKEN", "s3cret/token")
    deliver(bucket, GOOD)
    found = collect(ADDRESS, RECIPE.to_json(), f"dvc+{over_http}@main")
    assert found.startswith(f"dvc+{over_http}@")
    source = sources.resolve(f"dvc+{over_http}@main")
    assert source.address == found
    assert source.version.endswith(".dir")
    monkeypatch.setenv("GLT_GIT_TOKEN", "another/token")
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: pytest.fail("a password was asked for"))
    for ask in (
        lambda: collect(ADDRESS, RECIPE.to_json(), f"dvc+{over_http}@main"),
        lambda: sources.resolve(f"dvc+{over_http}@main"),
    ):
        with pytest.raises(GltError, match="check") as refused:
            ask()
        assert "another" not in str(refused.value)
