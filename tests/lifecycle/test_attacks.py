"""A model that was tampered with is refused by every way in, in one line that says what is wrong with which file."""

from __future__ import annotations

import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import requests
import torch
from mlflow.tracking._tracking_service import utils

from glt import artifact
from glt.artifact import drafts
from glt.errors import GltError
from glt.lifecycle import answers, model_version, registry, tracking
from glt.lifecycle.tracking import Versions
from glt.motion.disentangle import Motions
from glt.reporter import Silent
from glt.serving import keys, signature
from glt.serving.model import Predictor
from glt.training.classifier import save_classifier
from glt.training.encoder import build_encoder
from glt.training.probe import fit_probe
from tests.conftest import small_recipe, store
from tests.lifecycle import attacks
from tests.lifecycle.attacks import Attack, Scene, Served, sentence, ways_in
from tests.lifecycle.conftest import INJECTED, Server
from tests.lifecycle.test_registry import VERDICT
from tests.waiting import until

RECIPE = small_recipe()
ALL = {**attacks.STORE, **attacks.REGISTRY, **attacks.SIGNED}


@pytest.fixture(scope="module")
def prepared(motions: Motions, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys, two classifiers, and a GLT_HOME where both are registered, signed, and v2 is the champion."""
    folder = tmp_path_factory.mktemp("prepared")
    private, _, _ = keys.new_keys(folder / "keys")
    (folder / "runs").mkdir()
    shutil.copyfile(migrated, folder / "runs" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        for name in INJECTED:
            patch.delenv(name, raising=False)
        patch.setenv("GLT_HOME", str(folder / "runs"))
        patch.setenv("GLT_SIGNING_KEY", str(private))
        for number in (1, 2):
            recipe = small_recipe(probe={"epochs": 10 * number})
            result = fit_probe(build_encoder(recipe.model, motions), motions, recipe, torch.device("cpu"), Silent())
            tables = {"predictions": result.predictions, "validation": result.validation}
            place = folder / f"classifier-{number}"
            save_classifier(result.model, motions, recipe, tables, result.metrics, place, {"data_version": "test"})
            register(place)
            registry.promote(RECIPE.model_name, str(number), "better")
    with artifact.create(folder / "candidate", "classifier", {"data_version": "test"}) as draft:
        shutil.copytree(folder / "classifier-2", draft, dirs_exist_ok=True)
        artifact.write_json(draft / "metrics.json", {})
    return folder


def register(classifier: Path) -> str:
    versions = Versions("data", "code")
    with tracking.step(RECIPE, versions, "register") as run:
        return registry.register(classifier, RECIPE, versions, VERDICT, run.run_id).version


@pytest.fixture
def scene(prepared: Path, motions: Motions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A copy of `prepared`, with the private key, but no public one to verify with."""
    for name in (*INJECTED, "GLT_VERIFYING_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GLT_SIGNING_KEY", str(prepared / "keys" / keys.PRIVATE))
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "runs"))
    shutil.copytree(prepared / "runs", tmp_path / "runs")
    (tmp_path / "runs" / "mlflow.db.lock").unlink(missing_ok=True)

    def stop(folder: str, port: int) -> None:
        raise Served(folder)

    monkeypatch.setattr(answers, "become_model_server", stop)
    utils._artifact_repos_cache.clear()  # by the ids of models, which the copies share
    classifiers = [prepared / "classifier-1", prepared / "classifier-2"]
    return Scene(tmp_path, RECIPE, tracking.connect(), classifiers, prepared / "candidate", motions)


# What an attacker does first meets every way in; the rest one that loads and one that puts into service.
FIRST = {
    *(attacks.other_loader, attacks.code_folder, attacks.resealed_weights, attacks.empty_manifest, attacks.link),
    *(attacks.foreign_path, attacks.foreign_experiment, attacks.copied_tags),
    *(attacks.resealed_with_tags, attacks.no_signature, attacks.unknown_key),
}


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.__name__)
@pytest.mark.fault(
    "somebody changes the files of a registered model, or makes a version by hand",
    "refused by predict, serve, promote (--force, too), rollback, compare-models, sign, gate and warm start",
)
def test_every_way_in_refuses(scene: Scene, prepared: Path, attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    version = attack(scene)
    if attack in attacks.SIGNED:
        monkeypatch.setenv("GLT_VERIFYING_KEYS", str(prepared / "keys" / keys.PUBLIC))
    ways = ways_in(scene, version)
    for name in ways if attack in FIRST else ("predict", "promote --force"):
        said = sentence(ways[name])
        assert re.search(ALL[attack], said), f"{name}: {said}"
        assert "\n" not in said
    assert registry.champion(scene.name) != registry.find(f"{scene.name}/{version}") or attack in FIRST


def test_every_way_in_lets_the_registered_files_through(
    scene: Scene, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test above would prove nothing."""
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(prepared / "keys" / keys.PUBLIC))
    later = {  # what each says after the files were let through
        "predict": "recordings",
        "promote": "is in service now; compare again",
    }
    for name, way in ways_in(scene, "1").items():
        assert re.search(later.get(name, "^$"), sentence(way)), f"{name}: {sentence(way)}"


def test_a_file_that_changes_after_the_verification_is_not_loaded(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is written to at the last moment before the classifier is loaded."""
    expected = Predictor(scene.classifiers[0]).predict([store().clips[0][0]])
    found = registry.find(f"{scene.name}/1").folder()
    attacks.resealed_weights(scene)
    attacks.other_loader(scene)
    assert Predictor(found).predict([store().clips[0][0]]).equals(expected)
    with pytest.raises(GltError, match="not as it was registered"):
        registry.find(f"{scene.name}/1").folder()


def test_a_copy_belongs_to_this_user_and_to_the_process(scene: Scene) -> None:
    code = "from glt.lifecycle import registry; import sys; print(registry.find(sys.argv[1]).folder()); {end}"
    home = scene.folder / "runs" / "models"
    for end, left in (("", 0), ("import os; os.kill(os.getpid(), 9)", 1)):
        command = [sys.executable, "-c", code.format(end=f"sys.stdout.flush(); {end}"), f"{scene.name}/1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        folder = Path(done.stdout.strip())
        assert folder.is_relative_to(home), done.stderr
        assert len(list(home.iterdir())) == left
    (home / "notes").mkdir()
    elsewhere = home / f"copy-{int(drafts.machine(), 16) ^ 1:04x}-00000000"  # of another machine
    elsewhere.mkdir()
    root = next(path for path in home.iterdir() if path.name.startswith(f"copy-{drafts.machine()}"))
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    found = registry.find(f"{scene.name}/1").folder()
    assert not root.exists()  # the killed process's
    assert (home / "notes").exists()
    assert elsewhere.exists()
    other = registry.find(f"{scene.name}/2").folder()
    assert found.exists()  # this one's own is locked
    assert other.exists()


def test_rollback_returns_to_the_last_version_that_can_be_verified(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    register(scene.candidate)
    registry.promote(scene.name, "3", "better")
    file = scene.stored("2") / "MLmodel"
    file.write_text(file.read_text().replace("glt.serving.pyfunc", "attackers_module"))
    assert registry.rollback(scene.name).version == "1"
    assert "v2 is skipped: glt-stick-xsub v2: MLmodel: not as it was registered" in caplog.text


def test_keys_are_rotated(scene: Scene, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both public keys verify; without the old one, its versions are refused until they are signed anew."""
    folder = scene.folder / "public"
    folder.mkdir()
    new, public, _ = keys.new_keys(scene.folder / "new")
    shutil.copyfile(prepared / "keys" / keys.PUBLIC, folder / "old.pem")
    shutil.copyfile(public, folder / "new.pem")
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(folder))
    monkeypatch.setenv("GLT_SIGNING_KEY", str(new))
    assert register(scene.candidate) == "3"
    for version in ("1", "2", "3"):
        registry.find(f"{scene.name}/{version}").verify()
    assert attacks.command("sign", f"{scene.name}/2").startswith(f"{scene.name} v2 is signed by key ")
    (folder / "old.pem").unlink()
    for version in ("2", "3"):
        registry.find(f"{scene.name}/{version}").verify()
    with pytest.raises(GltError, match=r"v1: model\.sig: by none of the keys in GLT_VERIFYING_KEYS"):
        registry.find(f"{scene.name}/1").verify()


def test_the_same_content_is_registered_anew_with_another_key(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert register(scene.classifiers[0]) == "1"
    monkeypatch.setenv("GLT_SIGNING_KEY", str(keys.new_keys(scene.folder / "new")[0]))
    assert register(scene.classifiers[0]) == "3"
    assert register(scene.classifiers[0]) == "3"


def former(scene: Scene) -> registry.Version:
    """Version 1 as glt registered it before it digested whole folders, with files of MLflow that nothing verifies."""
    (scene.stored() / "model.sig").unlink()
    attacks.other_loader(scene)
    attacks.code_folder(scene)
    for tag in ("model.digests", "model.signed_by", "model.id"):
        scene.client.delete_model_version_tag(scene.name, "1", tag)
    return registry.find(f"{scene.name}/1")


def test_of_a_former_version_only_the_verified_classifier_is_used(scene: Scene) -> None:
    """Without public keys it is loaded by a folder that is built anew; nothing of what the store holds beside it is."""
    files = model_version.fetch(former(scene))
    folder = files.mlflow_folder()
    assert sorted(path.name for path in files.root.iterdir()) == ["classifier", "rebuilt"]
    assert not (folder / "code").exists()
    loaded = mlflow.pyfunc.load_model(str(folder))
    assert list(loaded.predict([store().clips[0][0]])) == ["label", "confidence"]


def test_a_former_version_is_refused_with_public_keys_until_it_is_signed(
    scene: Scene, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = former(scene)
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(prepared / "keys" / keys.PUBLIC))
    with pytest.raises(GltError, match=r"so not signed; .* GLT_VERIFYING_KEYS= glt sign glt-stick-xsub/1"):
        version.verify()
    monkeypatch.setenv("GLT_VERIFYING_KEYS", "")
    assert attacks.command("sign", f"{scene.name}/1").startswith(f"{scene.name} v3 is signed by key")
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(prepared / "keys" / keys.PUBLIC))
    signed = registry.find(f"{scene.name}/3")
    signed.verify()
    assert {name: value for name, value in version.tags.items() if not name.startswith("promoted.")}.items() <= (
        signed.tags.items()
    )


def test_weights_of_a_former_version_that_changed_are_refused(scene: Scene) -> None:
    version = former(scene)
    attacks.empty_manifest(scene)
    with pytest.raises(GltError, match=r"v1: .*: not listed in manifest\.json; do not use it"):
        version.verify()
    artifact.seal(scene.stored() / "data" / "classifier", "classifier", {})
    with pytest.raises(GltError, match="not those that were registered; do not use it"):
        version.verify()


def test_a_store_that_plain_mlflow_has_read_is_not_tampered_with(scene: Scene) -> None:
    """MLflow writes `registered_model_meta` into a store on this machine when it loads a version from there."""
    mlflow.pyfunc.load_model(f"models:/{scene.name}/1")
    assert (scene.stored() / "registered_model_meta").exists()
    registry.find(f"{scene.name}/1").verify()


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_plain_mlflow_loads_what_our_loader_verified(
    scene: Scene, prepared: Path, signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loader module is our own, so it has the last word wherever MLmodel names it."""
    address = f"models:/{scene.name}/1"
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(prepared / "keys" / keys.PUBLIC) if signed else "")
    expected = Predictor(scene.classifiers[0]).predict([store().clips[0][0]])
    assert mlflow.pyfunc.load_model(address).predict([store().clips[0][0]])["label"][0] == expected["label"][0]
    if signed:
        attacks.resealed_with_tags(scene)
        words = r"artifacts: model\.sig: not of these files"
    else:
        attacks.empty_manifest(scene)
        words = r"not listed in manifest\.json"
    with pytest.raises(GltError, match=words):
        mlflow.pyfunc.load_model(address)


def test_signing_and_verifying_ask_nothing_of_the_network(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection")

    private, public, _ = keys.new_keys(scene.folder / "new")
    monkeypatch.setenv("GLT_SIGNING_KEY", str(private))
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(public))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    signature.sign(scene.stored())
    signature.verify(scene.stored(), "m v1")


def test_glt_serve_answers_from_the_verified_copy_and_refuses_a_tampered_version(
    scene: Scene, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command and MLflow's real server: the store is tampered with while it runs."""
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(prepared / "keys" / keys.PUBLIC))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "glt", "serve", f"{scene.name}/1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or is_up(address))
        attacks.other_loader(scene)
        registry.find(f"{scene.name}/2").verify()  # deletes the copies of processes that have ended
        (copy,) = (scene.folder / "runs" / "models").iterdir()
        answer = requests.post(f"{address}/invocations", json={"inputs": [store().clips[0][0].tolist()]}, timeout=60)
        expected = Predictor(scene.classifiers[0]).predict([store().clips[0][0]])
        assert answer.json()["predictions"][0]["label"] == expected["label"][0]
        assert (copy / "model" / "MLmodel").exists()
    finally:
        process.terminate()
        said = process.communicate(timeout=60)[0]
    print(said)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("glt: error: glt-stick-xsub v1: MLmodel: not as it was registered")
    assert not copy.exists()


def is_up(address: str) -> bool:
    try:
        return requests.get(f"{address}/ping", timeout=10).ok
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("attack", [attacks.code_folder, attacks.resealed_weights, attacks.foreign_bucket])
def test_files_on_a_server_are_verified_too(
    server: Callable[[str], Server], prepared: Path, motions: Motions, tmp_path: Path, attack: Attack
) -> None:
    """The attacker writes to the server's artifact store; the version comes over HTTP."""
    running = server(f"attacked-{attack.__name__}")
    recipe = RECIPE.model_copy(
        update={"data": RECIPE.data.model_copy(update={"dataset": attack.__name__.replace("_", "-")})}
    )
    with tracking.step(recipe, Versions("data", "code"), "register") as run:
        version = registry.register(prepared / "classifier-1", recipe, Versions("data", "code"), VERDICT, run.run_id)
    version.verify()
    scene = OnServer(tmp_path, recipe, tracking.connect(), [], tmp_path, motions)
    scene.files = running.files
    attacked = registry.find(f"{recipe.model_name}/{attack(scene)}")
    words = ALL[attack].replace("v3", "v2")
    for way in (attacked.verify, lambda: registry.promote(attacked.name, attacked.version, "x")):
        assert re.search(words, sentence(way))


class OnServer(Scene):
    """A scene whose artifact store is a server's folder."""

    files: Path

    def stored(self, version: str = "1") -> Path:
        source = self.client.get_model_version(self.name, version).source
        return self.files / source.removeprefix("mlflow-artifacts:/")
