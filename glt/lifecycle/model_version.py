"""A version of a registered model, and its files: fetched into a private folder, verified there, loaded from there.

A version is accepted if three conditions hold: its source is the logged model that was registered, in the experiment of
its recipe; every file has the digest in the version's tag; and, where GLT_VERIFYING_KEYS is set, one of these keys
signed the files. Versions that were registered before there were digests of the whole folder are loaded without keys
only: their classifier is verified, and nothing else of the store is used.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glt import artifact, settings
from glt.errors import GltError, first_line, machine_failure
from glt.lifecycle import model_files, private_folders
from glt.lifecycle.connection import condition, connect, shown, wrap_mlflow_errors
from glt.serving import model_folder, signature
from glt.serving.model_folder import DO_NOT_USE, META
from glt.text import clean
from glt.training.classifier_files import FILES

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

PREFIX = "glt-"  # of the names of our models (`Recipe.model_name`); the name of their experiment follows
NO_DIGEST = "digest missing: not promotable; register again (glt register)"
_SOURCE = re.compile(r"(?P<experiment>.+)/models/(?P<model>m-[0-9a-f]{32})/artifacts")


class NotFetched(GltError):
    """The files of a version cannot be fetched: nothing is known about them."""


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    version: str
    tags: dict[str, str]
    run_id: str
    source: str = ""

    @property
    def title(self) -> str:
        """Name and version, as messages have them."""
        return f"{self.name} v{self.version}"

    @property
    def compared_champion(self) -> str:
        """Version of the champion that the gate compared this one with; empty if there was none."""
        return self.tags.get("gate.champion_version", self.tags.get("gate.over", "none")).removeprefix("none")

    @property
    def digest(self) -> str:
        """Digest of the classifier that was registered; empty if it is missing."""
        return self.tags.get("content.digest", "")

    def check_promotable(self) -> None:
        """Raise a GltError if the version has no digest to verify its files against."""
        if not self.digest:
            raise GltError(f"{self.title}: {NO_DIGEST}")

    def verify(self) -> None:
        """Raise a GltError if its files cannot be fetched, or are not what was registered."""
        with self.fetched():
            pass

    def folder(self) -> Path:
        """A verified copy of its classifier artifact, deleted when this process ends.

        Raises:
            GltError: it cannot be fetched, is damaged, or is not what was registered.
        """
        return fetch(self).classifier

    @contextmanager
    def fetched(self) -> Iterator[Fetched]:
        """Its files, as `fetch` gives them, until the block ends."""
        found = fetch(self)
        try:
            yield found
        finally:
            private_folders.delete(found.root)


@dataclass(frozen=True)
class Fetched:
    """The verified copy of a version's files.

    Attributes:
        root: the private folder that holds it.
        classifier: the folder of the classifier artifact.
        model: MLflow's record of the logged model.
        name: of the registered model.
        is_whole: the whole folder is verified; else only the classifier is, and all else was deleted.
    """

    root: Path
    classifier: Path
    model: LoggedModel
    name: str
    is_whole: bool

    def mlflow_folder(self) -> Path:
        """The folder for MLflow: the verified one, or, if only the classifier is verified, one that is built anew."""
        folder = self.root / ("model" if self.is_whole else "rebuilt")
        if not folder.exists():
            model_files.build_folder(folder, self.classifier, self.name, self.model)
        return folder


@wrap_mlflow_errors
def fetch(version: Version) -> Fetched:
    """Copy a version's files into a private folder and verify the copy; every file that is loaded comes from there.

    Raises:
        GltError: names the version, the file, what is wrong, and the remedy.
    """
    version.check_promotable()
    client = connect()
    model = _logged_model(client, version)
    root = private_folders.create()
    try:
        folder = root / "model"
        _copy(version, folder)
        if (folder / META).is_file():
            (folder / META).unlink()
        if model_files.DIGESTS in version.tags:
            return _verify_whole(version, root, folder, model)
        return _verify_classifier(version, root, folder, model)
    except BaseException:
        private_folders.delete(root)
        raise


def _verify_whole(version: Version, root: Path, folder: Path, model: LoggedModel) -> Fetched:
    registered = model_files.read_digests(version.tags[model_files.DIGESTS], version.title)
    found = model_folder.file_digests(folder, version.title)
    model_folder.compare(found, registered, version.title)
    model_folder.check_names(found, version.title)
    signature.verify(folder, version.title, f"{version.name}/{version.version}")
    classifier = model_folder.check_mlmodel(folder, version.title, model.model_id, version.name)
    _open_classifier(version, classifier)
    return Fetched(root, classifier, model, version.name, is_whole=True)


def _verify_classifier(version: Version, root: Path, folder: Path, model: LoggedModel) -> Fetched:
    """Verify a version that was registered before there were digests of the whole folder."""
    if settings.verifying_keys():
        raise GltError(
            f"{version.title}: registered without digests of its whole folder, so not signed; register it again with "
            f"GLT_SIGNING_KEY set, or, if you trust it unsigned: {settings.VERIFYING_KEYS}= glt sign "
            f"{version.name}/{version.version}"
        )
    model_folder.walk(folder, version.title)  # no links
    data = folder / "data"
    stored = next((path.parent for path in sorted(data.rglob(artifact.MANIFEST))), data)
    _open_classifier(version, stored)
    classifier = stored.rename(root / "classifier")
    shutil.rmtree(folder)
    return Fetched(root, classifier, model, version.name, is_whole=False)


def _open_classifier(version: Version, classifier: Path) -> None:
    try:
        artifact.open_artifact(classifier, "classifier", only=FILES)
    except GltError as error:
        problem = str(error).partition("; ")[0].replace(f"{classifier}/", "")
        raise GltError(f"{version.title}: {problem}; {DO_NOT_USE}") from error
    if artifact.digest(classifier) != version.digest:
        raise GltError(f"{version.title}: its files are not those that were registered; {DO_NOT_USE}")


def _logged_model(client: MlflowClient, version: Version) -> LoggedModel:
    """MLflow's record of the model that a version names, which must lie where its recipe's experiment has its models.

    Raises:
        GltError: it lies elsewhere, or is an earlier version's.
    """
    from mlflow.exceptions import MlflowException

    place = f"{version.title}: its source {shown(clean(version.source))[:200]}"
    match = _SOURCE.fullmatch(version.source)
    if match is None:
        raise GltError(f"{place} is not where MLflow keeps a model that a run logged; {DO_NOT_USE}")
    try:
        model = client.get_logged_model(match["model"])
        experiment = client.get_experiment(model.experiment_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise GltError(f"{place} is not that of a model that MLflow knows; {DO_NOT_USE}") from error
    if model.artifact_location != version.source or match["experiment"] != experiment.artifact_location:
        raise GltError(f"{place} is not where MLflow keeps its model {model.model_id}; {DO_NOT_USE}")
    if PREFIX + experiment.name != version.name:
        wanted = version.name.removeprefix(PREFIX)
        raise GltError(f"{place} is of the experiment {clean(experiment.name)!r:.80}, not {wanted!r:.80}; {DO_NOT_USE}")
    versions = search_versions(client, condition("name", version.name))
    same = [int(one.version) for one in versions if one.name == version.name and one.source == version.source]
    first = min(same, default=int(version.version))
    if first < int(version.version):
        raise GltError(f"{version.title}: its files are those of v{first}, so it was made by hand; use v{first}")
    return model


def search_versions(client: MlflowClient, which: str) -> list[ModelVersion]:
    """The versions of all registered models that meet a filter of MLflow's."""
    found: list[ModelVersion] = []
    token = None
    while token != "":
        page = client.search_model_versions(which, max_results=1000, page_token=token)
        found, token = [*found, *page], page.token or ""
    return found


def _copy(version: Version, target: Path) -> None:
    """Copy a version's files from the store to `target`; links are not followed where the store is a folder."""
    from mlflow.artifacts import download_artifacts
    from mlflow.utils.file_utils import local_file_uri_to_path

    try:
        if version.source.startswith(("file:", "/")):
            stored = Path(local_file_uri_to_path(version.source))  # type: ignore[no-untyped-call]
            names = {file.relative_to(stored).as_posix() for file in model_folder.walk(stored, version.title)}
            if model_files.DIGESTS in version.tags:  # before a file that was not registered fills the disk
                registered = model_files.read_digests(version.tags[model_files.DIGESTS], version.title)
                if extra := sorted(names - registered.keys() - model_folder.UNSIGNED):
                    raise GltError(f"{version.title}: {extra[0]}: was not registered; {DO_NOT_USE}")
            shutil.copytree(stored, target, symlinks=True)
            for path in (target, *target.rglob("*")):  # the store may be read-only
                if not path.is_symlink():
                    path.chmod(0o700 if path.is_dir() else 0o600)
        else:
            fetched = target.with_name("download")
            Path(download_artifacts(artifact_uri=version.source, dst_path=str(fetched))).rename(target)
    except GltError:
        raise
    except Exception as error:
        if failure := machine_failure(error):
            problem = f"{version.title}: its files cannot be fetched ({failure}); correct that and try again"
            raise NotFetched(problem) from error
        problem = f"{version.title}: its files cannot be fetched ({first_line(error)})"
        remedy = "check that this machine may read the artifact store, or roll back to a version whose files are there"
        raise NotFetched(f"{problem}; {remedy}") from error
