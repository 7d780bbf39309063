"""Profiles of infra/profiles.yaml: what they add to a pod, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from kfp import compiler

from glt.errors import GltError
from pipelines import profiles
from pipelines.graphs import GRAPHS
from pipelines.profile import Profile

Fields = dict[str, object]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder; what the tests before read from another is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(profiles, "FILE", Path("infra", "profiles.yaml"))
    (tmp_path / "infra").mkdir()
    return tmp_path / "infra"


def declare(folder: Path, text: str | dict[str, Fields]) -> None:
    content = text if isinstance(text, str) else yaml.safe_dump(text)
    (folder / "profiles.yaml").write_text(content, encoding="utf-8")


def test_a_profile_starts_from_one_of_ours(folder: Path) -> None:
    lab: Fields = {"extends": "gpu", "heavy": {"cpu": 16, "memory": "64Gi"}, "retries": 0, "queue": "lab"}
    declare(folder, {"gpu-lab": lab, "cpu": {"labels": {"example.org/cost-centre": "4711"}}})
    ours = profiles.PROFILES["gpu"]
    found = profiles.find("gpu-lab")
    assert found == ours.model_copy(update={"heavy": ("16", "64Gi"), "retries": 0, "queue": "lab"})
    assert profiles.find("cpu").pod_labels == {"example.org/cost-centre": "4711"}
    assert profiles.find("gpu") == ours
    with pytest.raises(GltError, match=r"take one of cpu, gpu, gpu-nodes, gpu-lab, .* did you mean gpu-lab\?"):
        profiles.find("gpu-lap")


@pytest.mark.parametrize("graph", sorted(GRAPHS))
def test_every_pod_gets_labels_and_the_secret_for_its_image(folder: Path, graph: str) -> None:
    labels = {"example.org/cost-centre": "motion", "team": ""}
    fields: Fields = {"extends": "gpu-nodes", "queue": "lab", "labels": labels, "pull_secrets": ["registry", "r2.eu"]}
    declare(folder, {"nodes": fields})
    compiler.Compiler().compile(GRAPHS[graph]("nodes"), str(folder / "graph.yaml"))
    spec, platform = yaml.safe_load_all((folder / "graph.yaml").read_text(encoding="utf-8"))
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors.keys() == spec["deploymentSpec"]["executors"].keys()
    all_labels = {**labels, "kueue.x-k8s.io/queue-name": "lab"}
    for settings in executors.values():
        assert settings["podMetadata"]["labels"] == all_labels
        assert [one["secretName"] for one in settings["imagePullSecret"]] == ["registry", "r2.eu"]
    if graph in ("training", "retraining"):
        environment = spec["deploymentSpec"]["executors"]["exec-pretrain"]["container"]["env"]
        (passed_on,) = [yaml.safe_load(one["value"]) for one in environment if one["name"] == "GLT_JOB_LABELS"]
        assert passed_on == all_labels  # the job's nodes are in the same queue


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"labels": {"-a": "b"}}, "'-a' is not a valid label key"),
        ({"labels": {"a" * 64: "b"}}, "is not a valid label key"),
        ({"labels": {"Example.org/a": "b"}}, "is not a valid label key"),
        ({"labels": {"a/b/c": "b"}}, "is not a valid label key"),
        ({"labels": {"/a": "b"}}, "is not a valid label key"),
        ({"labels": {"": "b"}}, "is not a valid label key"),
        ({"labels": {"a": "b c"}}, "labels.a: not a valid label value"),
        ({"labels": {"a": "b" * 64}}, "labels.a: not a valid label value"),
        ({"labels": {"a": "b\n"}}, "labels.a: not a valid label value"),
        ({"labels": {"a": 4711}}, "labels.a: YAML takes it for something else than text; put it in quotes"),
        ({"labels": {"a": True}}, "labels.a: YAML takes it for something else than text; put it in quotes"),
        ({"labels": {"a": None}}, "labels.a: YAML takes it for something else than text; put it in quotes"),
        ({"queue": 4711}, "queue: YAML takes it for something else than text; put it in quotes"),
        ({"queue": "Lab"}, "queue: not a valid Kubernetes name"),
        ({"queue": "q" * 64}, "queue: not a valid label value"),
        ({"pull_secrets": [""]}, "pull_secrets.0: "),
        ({"pull_secrets": ["registry", "registry"]}, "pull_secrets: a name is given twice"),
        ({"on_cluster": False}, "on_cluster: all profiles of this file are for a cluster; remove the line"),
        ({"heavy": {"cpu": 1, "memory": "1K"}}, "heavy.memory: give an amount of memory from 256Mi to 64Ti"),
        ({"heavy": {"cpu": 1, "memory": "1Mi"}}, "heavy.memory: give an amount of memory from 256Mi to 64Ti"),
        ({"heavy": {"cpu": 1, "memory": "9999999Ti"}}, "heavy.memory: give an amount of memory from 256Mi to 64Ti"),
        ({"labels": {"pipeline/runid": "x"}}, "pipeline/runid: Kubeflow sets this label itself; take another"),
        ({"labels": {"kueue.x-k8s.io/queue-name": "x"}}, "set the field queue"),
        ({"queue": "a b"}, "queue: not a valid Kubernetes name"),
        ({"pull_secrets": ["A"]}, "pull_secrets.0: not a valid Kubernetes name"),
        ({"service_account": "a_b"}, "service_account: not a valid Kubernetes name"),
        ({"heavy": {"cpu": "500m", "memory": "1Gi"}}, "heavy.cpu: give a whole number of cores"),
        ({"heavy": {"cpu": True, "memory": "1Gi"}}, "heavy.cpu: give a whole number of cores"),
        ({"heavy": {"cpu": 1, "memory": "1 GB"}}, "heavy.memory: give an amount of memory"),
        ({"heavy": {"cpu": 1}}, "heavy.memory: "),
        ({"retries": 11}, "retries: "),
        ({"nodes": True}, "nodes: yes, no, true or false"),
        ({"accelerator": "tpu"}, "accelerator: "),
        ({"querie": "x"}, "querie: unknown key"),
        (
            {"extends": "local"},
            "extends: name the profile to start from, one of cpu, gpu, gpu-nodes, which are glt's own",
        ),
        ({"extends": ["gpu"]}, "extends: name the profile"),
        ({"extends": "lab"}, "extends: name the profile"),
    ],
)
def test_a_wrong_profile_is_one_line_with_its_field(folder: Path, fields: Fields, why: str) -> None:
    declare(folder, {"lab": {"extends": "gpu", **fields}})
    with pytest.raises(GltError, match=re.escape(why)) as caught:
        profiles.find("lab")
    assert str(caught.value).startswith("profiles infra/profiles.yaml: lab: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["- a", "lab: 1", "Lab: {extends: gpu}", "local: {retries: 1}", "a: [", "lab: {}"])
def test_a_file_that_holds_no_profiles_is_one_line(folder: Path, text: str) -> None:
    declare(folder, text)
    with pytest.raises(GltError, match=r"^profiles infra/profiles\.yaml: ") as caught:
        profiles.find("gpu")
    assert len(str(caught.value).splitlines()) == 1


def test_the_example_in_the_project_s_file_is_a_profile(folder: Path) -> None:
    shipped = (Path(__file__).parents[2] / "infra" / "profiles.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(shipped) is None
    example = "\n".join(line[2:] for line in shipped.partition("#\n")[2].splitlines())
    declare(folder, example)
    assert profiles.find("gpu-lab").queue == "lab"
    assert isinstance(profiles.find("gpu-lab"), Profile)
