"""Attacks on a registered model, and every way in which its files are loaded.

An attack is on version 1 of the model; it returns the version that the attacker wants to be loaded. Those of `STORE`
take write access to the artifact store, those of `REGISTRY` an account at MLflow, too; those of `SIGNED` are only
noticed with public keys, since the attacker can write all that there is to compare with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner

from glt import artifact, cli
from glt.errors import GltError
from glt.lifecycle import model_files, promotions, registry
from glt.motion.disentangle import Motions
from glt.recipe import Recipe
from glt.serving import keys, model_folder, signature
from glt.steps import gate, retraining, training


@dataclass
class Scene:
    """A registered model under attack: v1 was the champion before v2.

    Attributes:
        folder: for the attacker's files.
        recipe: names the model.
        client: of MLflow.
        classifiers: the artifacts of v1 and v2.
        candidate: another classifier, for the gate.
        motions: that they were trained on.
    """

    folder: Path
    recipe: Recipe
    client: MlflowClient
    classifiers: list[Path]
    candidate: Path
    motions: Motions

    @property
    def name(self) -> str:
        return self.recipe.model_name

    def stored(self, version: str = "1") -> Path:
        """The files of a version in the artifact store."""
        return Path(urlsplit(self.client.get_model_version(self.name, version).source).path)

    def tags(self, version: str = "1") -> dict[str, str]:
        return dict(self.client.get_model_version(self.name, version).tags)

    def digest_anew(self, version: str = "1") -> None:
        """Make the registry agree with the files."""
        digests = model_folder.file_digests(self.stored(version), "attacked")
        self.client.set_model_version_tag(self.name, version, "model.digests", model_files.digests_text(digests))
        content = artifact.digest(self.stored(version) / "data" / "classifier")
        self.client.set_model_version_tag(self.name, version, "content.digest", content)

    def by_hand(self, source: str, model_id: str | None = None) -> str:
        """Create a version with the tags of v1."""
        run_id = self.client.get_model_version(self.name, "1").run_id
        made = self.client.create_model_version(self.name, source, run_id, self.tags(), model_id=model_id)
        return str(made.version)


def other_loader(scene: Scene) -> str:
    file = scene.stored() / "MLmodel"
    file.write_text(file.read_text().replace("glt.serving.pyfunc", "attackers_module"))
    return "1"


def code_folder(scene: Scene) -> str:
    (scene.stored() / "code").mkdir()
    (scene.stored() / "code" / "glt.py").write_text("raise SystemExit('the attacker was here')")
    return "1"


def other_requirements(scene: Scene) -> str:
    (scene.stored() / "requirements.txt").write_text("attackers-package\n")
    return "1"


def other_wheel(scene: Scene) -> str:
    (wheel,) = (scene.stored() / "wheels").iterdir()
    wheel.write_bytes(b"PK attackers_package")
    return "1"


def resealed_weights(scene: Scene) -> str:
    classifier = scene.stored() / "data" / "classifier"
    weights = classifier / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    artifact.seal(classifier, "classifier", artifact.read_manifest(classifier).info)
    return "1"


def empty_manifest(scene: Scene) -> str:
    classifier = scene.stored() / "data" / "classifier"
    weights = classifier / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    content = json.loads((classifier / "manifest.json").read_text())
    (classifier / "manifest.json").write_text(json.dumps(content | {"files": {}}))
    return "1"


def link(scene: Scene) -> str:
    weights = scene.stored() / "data" / "classifier" / "model.safetensors"
    weights.rename(scene.folder / "same-bytes")
    weights.symlink_to(scene.folder / "same-bytes")
    return "1"


def files_of_another_version(scene: Scene) -> str:
    shutil.rmtree(scene.stored())
    shutil.copytree(scene.stored("2"), scene.stored())
    scene.digest_anew()
    return "1"


def foreign_path(scene: Scene) -> str:
    shutil.copytree(scene.stored(), scene.folder / "foreign")
    return scene.by_hand((scene.folder / "foreign").as_uri())


def foreign_bucket(scene: Scene) -> str:
    return scene.by_hand(f"s3://attackers/models/m-{'0' * 32}/artifacts")


def unknown_logged_model(scene: Scene) -> str:
    place = scene.stored().parents[1] / f"m-{'0' * 32}" / "artifacts"
    shutil.copytree(scene.stored(), place)
    return scene.by_hand(place.as_uri())


def foreign_experiment(scene: Scene) -> str:
    other = scene.client.create_experiment("attackers", artifact_location=(scene.folder / "attackers").as_uri())
    run = scene.client.create_run(other)
    model = scene.client.create_logged_model(other, "classifier", run.info.run_id)
    shutil.copytree(scene.stored(), Path(urlsplit(model.artifact_location).path))
    return scene.by_hand(model.artifact_location, model.model_id)


def copied_tags(scene: Scene) -> str:
    run_id = scene.client.get_model_version(scene.name, "1").run_id
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GLT_SIGNING_KEY", raising=False)
        logged = model_files.log_model(scene.client, scene.classifiers[1], scene.name, run_id)
    return scene.by_hand(logged.model.artifact_location, logged.model.model_id)


def same_files_again(scene: Scene) -> str:
    return scene.by_hand(scene.client.get_model_version(scene.name, "1").source)


def empty_digests(scene: Scene) -> str:
    scene.client.set_model_version_tag(scene.name, "1", "model.digests", "{}")
    return "1"


def no_digests(scene: Scene) -> str:
    for tag in ("model.digests", "content.digest"):
        scene.client.delete_model_version_tag(scene.name, "1", tag)
    return "1"


def resealed_with_tags(scene: Scene) -> str:
    resealed_weights(scene)
    scene.digest_anew()
    return "1"


def other_loader_with_tags(scene: Scene) -> str:
    other_loader(scene)
    scene.digest_anew()
    return "1"


def code_with_tags(scene: Scene) -> str:
    code_folder(scene)
    file = scene.stored() / "MLmodel"
    content = yaml.safe_load(file.read_text())
    content["flavors"]["python_function"]["code"] = "code"
    file.write_text(yaml.safe_dump(content))
    scene.digest_anew()
    return "1"


def no_signature(scene: Scene) -> str:
    (scene.stored() / "model.sig").unlink()
    return "1"


def unknown_key(scene: Scene) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLT_SIGNING_KEY", str(keys.new_keys(scene.folder / "attackers-keys")[0]))
        signature.sign(scene.stored())
    return "1"


def forged_signature(scene: Scene) -> str:
    """By the attacker's key, in the name of ours."""
    hint = signature_hint(scene.stored())
    unknown_key(scene)
    file = scene.stored() / "model.sig"
    file.write_text(file.read_text().replace(signature_hint(scene.stored()), hint))
    return "1"


def signature_hint(folder: Path) -> str:
    content = json.loads((folder / "model.sig").read_text())
    return str(content["verificationMaterial"]["publicKey"]["hint"])


def signature_of_another_version(scene: Scene) -> str:
    shutil.copyfile(scene.stored("2") / "model.sig", scene.stored() / "model.sig")
    return "1"


def damaged_signature(scene: Scene) -> str:
    (scene.stored() / "model.sig").write_text("{" * 100_000)
    return "1"


def only_the_old_digest(scene: Scene) -> str:
    scene.client.delete_model_version_tag(scene.name, "1", "model.digests")
    return "1"


# Each with the words that name it.
Attack = Callable[[Scene], str]
STORE: dict[Attack, str] = {
    other_loader: "v1: MLmodel: not as it was registered",
    code_folder: r"v1: code/glt\.py: was not registered",
    other_requirements: r"v1: requirements\.txt: not as it was registered",
    other_wheel: r"v1: wheels/glt-.*\.whl: not as it was registered",
    resealed_weights: r"v1: data/classifier/manifest\.json: not as it was registered",
    empty_manifest: r"v1: data/classifier/manifest\.json: not as it was registered",
    link: r"v1: data/classifier/model\.safetensors: a link",
}
REGISTRY: dict[Attack, str] = {
    files_of_another_version: "v1: MLmodel: it is that of the logged model 'm-.*', not of m-",
    foreign_path: "v3: its source file:///.*/foreign is not where MLflow keeps a model that a run logged",
    foreign_bucket: "v3: its source s3://attackers/.* is not that of a model that MLflow knows",
    unknown_logged_model: "v3: its source file:///.* is not that of a model that MLflow knows",
    foreign_experiment: "v3: its source file:///.* is of the experiment 'attackers', not 'stick-xsub'",
    copied_tags: "v3: MLmodel: not as it was registered",
    same_files_again: "v3: its files are those of v1, so it was made by hand; use v1",
    empty_digests: r"v1: its tag model\.digests holds no digests",
    no_digests: "v1: digest missing: not promotable; register again",
    other_loader_with_tags: "v1: MLmodel: its loader module is 'attackers_module', not glt.serving.pyfunc",
    code_with_tags: r"v1: code/glt\.py: does not belong to a model of ours",
}
SIGNED: dict[Attack, str] = {
    resealed_with_tags: r"v1: model\.sig: not of these files \(data/classifier/manifest\.json, data/classifier/model",
    no_signature: r"v1: model\.sig: missing, so it is not signed",
    unknown_key: r"v1: model\.sig: by none of the keys in GLT_VERIFYING_KEYS \([0-9a-f]{12}\)",
    forged_signature: r"v1: model\.sig: its signature is not by the key that it names",
    signature_of_another_version: r"v1: model\.sig: not of these files",
    damaged_signature: r"v1: model\.sig: damaged",
    only_the_old_digest: "v1: registered without digests of its whole folder, so not signed; register it again",
}


def ways_in(scene: Scene, version: str) -> dict[str, Callable[[], object]]:
    """Every way in which a version's files are loaded, or come to be loaded by others."""
    model, recipe, out = f"{scene.name}/{version}", scene.recipe, scene.folder / "out"

    def warm_start() -> object:
        start = recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"start": model})})
        return training.pretrain(scene.motions.path, start.to_json(), out, code_version="c")

    def force_into_service() -> None:
        """As somebody with an account at MLflow can do: the history decides."""
        versions = {number: scene.tags(number) for number in {"1", "2", version}}
        with promotions.aliases_lock(scene.name) as held:
            promotions.put_in_service(scene.client, scene.name, version, "promoted", "x", versions, held)

    def champion_of_the_gate() -> object:
        force_into_service()
        clips = scene.folder / "clips"
        return gate.gate(
            clips, scene.candidate, recipe.to_json(), scene.folder / "verdict", code_version="c", data_version="test"
        )

    def champion_of_a_retraining() -> object:
        (scene.folder / "recordings").mkdir(exist_ok=True)
        (scene.folder / "recordings" / "new").touch()
        again = recipe.model_copy(update={"retrain": recipe.retrain.model_copy(update={"start": "champion"})})
        return retraining.check_for_new_data(str(scene.folder / "recordings"), again.to_json(), code_version="c")

    return {
        "predict": lambda: command("predict", str(scene.folder), "--model", model),
        "serve": lambda: command("serve", model, "--port", "5901"),
        "compare-models": lambda: command("compare-models", f"{scene.name}/2", model, "--out", f"{out}.html"),
        "promote": lambda: command("promote", model, "--because", "x"),
        "promote --force": lambda: command("promote", model, "--because", "x", "--force"),
        "the pipeline's promote": lambda: registry.promote(scene.name, version, "x"),
        "sign": lambda: command("sign", model),
        "warm start": warm_start,
        "the gate's champion": champion_of_the_gate,
        "the champion of a retraining": champion_of_a_retraining,
        "rollback": lambda: rollback(scene, version),
    }


def rollback(scene: Scene, version: str) -> object:
    """From v2 to the version, where no other can be returned to."""
    tags = {number: scene.tags(number) for number in {"1", "2", version}}
    with promotions.aliases_lock(scene.name) as held:
        for number in (version, "2"):
            promotions.put_in_service(scene.client, scene.name, number, "promoted", "x", tags, held)
    if version != "1":
        scene.client.delete_model_version_tag(scene.name, "1", "content.digest")
    return command("rollback", scene.name)


class Served(Exception):
    """`glt serve` would have become MLflow's server."""


def command(*arguments: str) -> str:
    """Run a command of `glt`; a GltError that ends it is raised."""
    done = CliRunner().invoke(cli.app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def sentence(way: Callable[[], object]) -> str:
    """The line in which a way in refuses; an empty string if it does not."""
    try:
        way()
    except GltError as error:
        return str(error)
    except Served:
        pass
    return ""
