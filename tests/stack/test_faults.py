"""Faults of real servers, connections, processes and disks, at their worst moments; docs/faults.md has the table."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
import torch
from safetensors.torch import save_file

from glt import artifact
from glt.errors import GltError
from glt.lifecycle import collection, registry, tracking
from glt.motion.disentangle import Motions
from infra.local.stack import Stack
from tests.conftest import small_recipe
from tests.data import recorded
from tests.lifecycle import projects
from tests.lifecycle.conftest import make_classifier
from tests.stack.conftest import ROOT, Pretraining
from tests.stack.models import promoted, register
from tests.stack.wire import WRITES, Cut, Wire
from tests.waiting import until

EPOCHS = 60
RECIPE = small_recipe(pretrain={"epochs": EPOCHS, "batch": 8, "lr": 2e-3})


def curve() -> list[int]:
    """The epochs whose loss MLflow has, of the pretraining in this pipeline run."""
    client = tracking.connect()
    experiment = client.get_experiment_by_name(RECIPE.experiment)
    if experiment is None:
        return []
    mine = f"tags.`{tracking.PIPELINE}` = '{os.environ['GLT_RUN_ID']}'"
    return sorted(
        point.step
        for parent in client.search_runs([experiment.experiment_id], mine)
        for run in tracking.children(client, parent.info.run_id)
        for point in client.get_metric_history(run.info.run_id, "pretrain/loss")
    )


def change_password(stack: Stack) -> None:
    """Of the pipelines' account, as an operator does it: another Secret, the pod anew. Who runs has the old one."""
    stack.change_secret("mlflow-accounts", MLFLOW_PASSWORD_PIPELINES="a-new-password")
    stack.change_secret("glt-mlflow", MLFLOW_TRACKING_PASSWORD="a-new-password")
    stack["mlflow"].stop()
    stack["mlflow"].start()


FAULTS: dict[str, tuple[Callable[[Stack], None], Callable[[Stack], None]]] = {
    "MLflow is killed": (lambda stack: stack["mlflow"].kill(), lambda stack: stack["mlflow"].start()),
    "MLflow hangs": (lambda stack: stack["mlflow"].pause(), lambda stack: stack["mlflow"].resume()),
    "its database is killed": (lambda stack: stack["database"].kill(), lambda stack: stack["database"].start()),
    "the password is changed": (change_password, lambda stack: None),
}


@pytest.mark.fault(
    "MLflow is killed in the middle of a training",
    "the training goes on and ends; once the server is back it has every epoch, once",
)
@pytest.mark.fault(
    "MLflow hangs in the middle of a training: it accepts connections and does not answer",
    "the training goes on and ends; after 8 s a message is kept on disk and sent later",
)
@pytest.mark.fault(
    "MLflow's PostgreSQL is killed in the middle of a training",
    "the training goes on and ends; MLflow reconnects, and every epoch is there once",
)
@pytest.mark.fault(
    "the password (token) is changed in the middle of a training",
    "the training goes on and ends; the next process that has the new token sends what is missing",
)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_training_outlives_its_tracking_server(
    stack: Stack, motions: Motions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """It goes on, ends well, and every epoch arrives once."""
    strike, mend = FAULTS[fault]
    training = Pretraining(motions, RECIPE, tmp_path)
    process = training.start()
    until(lambda: process.poll() is not None or bool(curve()))
    strike(stack)
    until(lambda: process.poll() is not None or "MLflow is away, the step goes on" in training.output())
    time.sleep(3)
    mend(stack)
    assert process.wait(900) == 0, training.output()
    assert "MLflow is away, the step goes on" in training.output()
    artifact.open_artifact(training.out, "encoder")
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    assert curve() == list(range(1, EPOCHS + 1))


def heavy_classifier(place: Path) -> Path:
    """One whose weights take many pieces on the way."""
    whole = make_classifier(place, seed=5)
    (whole / artifact.MANIFEST).unlink()
    save_file({"classifier.weight": torch.rand(2_000_000)}, whole / "model.safetensors")
    artifact.seal(whole, "classifier", {})
    return whole


@pytest.mark.fault(
    "the connection is cut in the middle of a model's upload, or the process is killed there",
    "no version is registered; the same command again registers it whole",
)
@pytest.mark.parametrize("killed", [False, True], ids=["the connection is cut", "the process is killed"])
def test_a_model_that_was_uploaded_by_half_is_not_registered(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """And the same again registers it whole."""
    classifier, name = heavy_classifier(tmp_path / "heavy"), f"half-{'killed' if killed else 'cut'}"
    sent = [0]

    def heard(piece: bytes) -> None:
        sent[0] += len(piece)
        if sent[0] > 4_000_000:
            if killed:
                process.kill()
            raise Cut

    wire = Wire(stack["mlflow"].port, heard)
    code = "import sys; from pathlib import Path; from tests.stack.models import register\n"
    code += "register(Path(sys.argv[1]), sys.argv[2])"
    through = {"MLFLOW_TRACKING_URI": f"http://localhost:{wire.port}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(classifier), name],
        env=os.environ | through,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.wait(300) != 0
    wire.close()
    with pytest.raises(GltError, match=r"no such model|it has no version 1"):
        registry.find(f"glt-{name}-xsub/1")
    whole = register(classifier, name)
    assert artifact.digest(whole.folder()) == artifact.digest(classifier)


@pytest.mark.fault("the object store hangs during an upload", "the upload waits for it")
def test_a_store_that_hangs_is_waited_for(stack: Stack, tmp_path: Path) -> None:
    stack["object-store"].pause()
    threading.Timer(15, stack["object-store"].resume).start()
    whole = register(make_classifier(tmp_path / "one", seed=1), "hangs")
    assert artifact.digest(whole.folder()) == artifact.digest(tmp_path / "one")


def promote_and_be_killed(stack: Stack, name: str, allowed: int) -> int:
    """Promote version 2 in a process that is killed instead of sending one request more; its exit code."""
    left = [allowed]

    def heard(piece: bytes) -> None:
        if WRITES.match(piece):
            if not left[0]:
                process.kill()
                raise Cut
            left[0] -= 1

    wire = Wire(stack["mlflow"].port, heard)
    code = "from sys import argv; from glt.lifecycle.registry import promote; promote(argv[1], '2', 'better', '1')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, name],
        env=os.environ | {"MLFLOW_TRACKING_URI": f"http://localhost:{wire.port}"},
        stderr=subprocess.DEVNULL,
    )
    ended = process.wait(120)
    wire.close()
    return ended


@pytest.mark.fault(
    "a promotion is killed before any of its requests",
    "there is a champion, the old or the new; the next promotion completes it, and the history has each one once",
)
def test_a_promotion_that_is_killed_at_any_request_leaves_a_champion_and_is_done_by_the_next(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of a killed process expires; here it is a file, which is free at once."""
    monkeypatch.delenv("GLT_LOCKS")
    for allowed in range(20):
        name = promoted(tmp_path / str(allowed), f"killed-{allowed}", versions=2)
        ended = promote_and_be_killed(stack, name, allowed)
        champion = registry.champion(name)
        assert champion is not None
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        assert champion.version in {"1", "2"}
        registry.promote(name, "2", "better", expected_champion="1")
        held = tracking.connect().get_registered_model(name).aliases
        assert held == {"champion": "2", "previous": "1", "challenger": "2"}
        assert [event.version for event in registry.history(name)] == ["1", "2"]
    assert champion.version == "2"
    assert allowed > 2  # at each of so many requests it was killed


@pytest.mark.fault(
    "two retrainings promote at once, in two pods",
    "one wins; the other is refused, since the champion it was compared with is no longer in service",
)
def test_of_two_promotions_in_two_pods_one_wins(stack: Stack, tmp_path: Path) -> None:
    """They share nothing but the bucket with the locks."""
    name = promoted(tmp_path, "two-pods", versions=3)
    code = "from sys import argv; from glt.lifecycle.registry import promote; promote(*argv[1:3], 'better', '1')"
    both = {
        version: subprocess.Popen(
            [sys.executable, "-c", code, name, version],
            env=os.environ | {"GLT_HOME": str(tmp_path / f"pod-{version}")},
            stderr=subprocess.PIPE,
            text=True,
        )
        for version in ("2", "3")
    }
    said = {version: process.communicate(timeout=300)[1] for version, process in both.items()}
    (winner,) = (version for version, process in both.items() if process.returncode == 0)
    (loser,) = set(both) - {winner}
    assert "is in service now; compare again" in said[loser]
    champion = registry.champion(name)
    assert champion is not None
    assert champion.version == winner


@pytest.mark.fault(
    "the object store dies in the middle of `dvc push`",
    "`collect` says so and commits nothing; the next call takes each recording once, and DVC has all",
)
def test_recordings_whose_push_met_a_dead_store_are_collected_by_the_next_call(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store dies in the middle of DVC's push: nothing is committed, nothing is lost, nothing is taken twice."""
    armed = [False]

    def heard(piece: bytes) -> None:
        if armed[0] and piece.startswith(b"PUT /recordings/"):
            armed[0] = False
            stack["object-store"].kill()
            raise Cut

    wire = Wire(stack["object-store"].port, heard)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "t")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "t@t")
    first = {"first/S001C001P009R001A001.skeleton": recorded.one_person(9)}
    root = projects.make(tmp_path / "project", "s3://recordings/dvc", first, f"http://localhost:{wire.port}")
    landing = boto3.Session().client("s3", region_name="us-east-1")
    names = [f"S001C001P{person:03}R001A001.skeleton" for person in range(1, 9)]
    for number, name in enumerate(names):
        landing.put_object(Bucket="landing", Key=f"lab/{name}", Body=recorded.one_person(number + 1))
    recipe = small_recipe(data={"dataset": "ntu60", "format": "ntu", "protocol": "xsub", "persons": 2})
    (tmp_path / "recipe.yaml").write_text(recipe.to_json())
    command = [sys.executable, "-m", "glt", "collect", "s3://landing/lab", str(tmp_path / "recipe.yaml"), "--commit"]
    head = projects.run(root, "git", "rev-parse", "HEAD")
    armed[0] = True
    met = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert not armed[0]
    assert met.returncode == 1, met.stderr
    assert "glt: error" in met.stderr
    assert projects.run(root, "git", "rev-parse", "HEAD") == head

    stack["object-store"].start()
    subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=600)
    assert projects.run(root, "git", "rev-parse", "HEAD") != head
    (batch,) = collection.ledgers(root)
    shutil.rmtree(root / ".dvc" / "cache")
    shutil.rmtree(root / "data")
    projects.dvc(root, "pull", "-q")
    assert (root / "data" / batch).is_file()
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=600)
    assert "nothing new" in again.stdout + again.stderr
    wire.close()


@pytest.mark.fault(
    "the disk of the checkpoints, or of a step's output, is full",
    "the training ends with one line that names folder and remedy; once there is room, the same command resumes it",
)
@pytest.mark.parametrize(
    ("place", "size"), [("states", "200k"), ("made", "8k")], ids=["of its checkpoints", "of its encoder"]
)
def test_a_training_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    stack: Stack, motions: Motions, tmp_path: Path, place: str, size: str
) -> None:
    """The second state does not fit, or the encoder at the end."""
    training = Pretraining(motions, RECIPE, tmp_path)
    folder = tmp_path / place
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={size} none {folder} && exec "$@"'
    process = training.start("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    assert process.wait(900) == 1, training.output()
    (said,) = (line for line in training.output().splitlines() if line.startswith("glt: error"))
    assert "No space left on device" in said
    assert str(folder) in said
    assert not training.out.exists()
    assert "Traceback" not in training.output()
    assert training.start().wait(900) == 0, training.output()
    assert curve() == list(range(1, EPOCHS + 1))
