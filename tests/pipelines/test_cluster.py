"""What is sent to a Kubeflow Pipelines server. A stub takes it, and reads every body with the server's own models."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from glt.errors import GltError
from glt.lifecycle.dvc_hash import content_md5
from glt.recipe import load, study
from pipelines import cluster
from pipelines.cluster import Schedule
from pipelines.parameters import ScheduledValues
from pipelines.server import Server
from tests.pipelines.server_stub import API, Stub, running_stub

BRANCH = "dvc+https://git.lab/glt.git@main"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("GLT_CODE_VERSION", "c0dec0dec0de")
    with running_stub(monkeypatch) as made:
        yield made


def schedule(**changes: Any) -> Schedule:
    parameters = {"recordings": BRANCH, "recipe": "ntu60-xsub"}
    return Schedule.model_validate({"graph": "retraining", "cron": "0 0 3 * * 1", "parameters": parameters} | changes)


def with_values(**values: Any) -> dict[str, Any]:
    return {"parameters": {"recordings": BRANCH, "recipe": "sample"} | values}


def collection(**values: Any) -> dict[str, Any]:
    parameters = {"landing": "s3://landing/lab", "recipe": "ntu60-xsub", "into": BRANCH} | values
    return {"graph": "collection", "parameters": parameters}


def planned_changes(schedules: dict[str, Schedule], dry: bool = False) -> list[tuple[str, str]]:
    return [(change.action, change.name) for change in cluster.reconcile(schedules, dry=dry)]


def test_a_run_is_started_with_what_it_trains_on(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "a.skeleton").write_bytes(b"1")
    assert cluster.submit("training", str(tmp_path), "sample", "cpu") == "run-1"
    assert cluster.submit("retraining", BRANCH, "sample", "gpu-nodes", 4) == "run-2"
    assert cluster.submit("ablation", str(tmp_path), "sample", "cpu", study="nw-ucla") == "run-3"
    training, retraining, ablation = stub.runs
    given = training.runtime_config.parameters
    assert given.keys() == {"recordings", "recipe", "data_version", "code_version"}
    assert given["data_version"] == content_md5(tmp_path)
    assert json.loads(given["recipe"])["name"] == "sample"
    assert (training.display_name, training.experiment_id) == ("sample", stub.experiments[0]["experiment_id"])
    assert stub.experiments[0]["display_name"] == "sample-xsub"
    assert retraining.runtime_config.parameters.keys() == {"recordings", "recipe", "code_version", "nodes"}
    assert retraining.runtime_config.parameters["nodes"] == 4
    assert ablation.runtime_config.parameters["arms"] == study.items(study.load("nw-ucla").recipes())
    assert json.loads(ablation.runtime_config.parameters["recipe"])["name"] == "nw-ucla-ablation"
    assert [run.plugins_input["mlflow"]["experiment_name"] for run in stub.runs] == [
        "sample-xsub", "sample-xsub", "nw-ucla-cross-view",
    ]  # fmt: skip


def test_a_version_is_registered_once(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        cluster.submit("retraining", BRANCH, "sample", "cpu")
    (pipeline,) = stub.pipelines
    (version,) = stub.versions
    assert (pipeline["display_name"], pipeline["name"]) == ("glt-retraining", "glt-retraining")
    assert re.fullmatch(r"c0dec0dec0de-cpu-[0-9a-f]{8}", version["display_name"])
    for words in ("Graph retraining", "profile cpu", "code c0dec0dec0de", "commit ", "image glt:0.1.0"):
        assert words in version["description"]
    assert version["pipeline_spec"]["pipelineInfo"]["name"] == "glt-retraining"
    assert {run.pipeline_version_reference.pipeline_version_id for run in stub.runs} == {version["pipeline_version_id"]}
    assert {run.pipeline_version_reference.pipeline_id for run in stub.runs} == {pipeline["pipeline_id"]}
    monkeypatch.setenv("GLT_CODE_VERSION", "Another_1" + "x" * 200)
    cluster.submit("retraining", BRANCH, "sample", "cpu")
    cluster.submit("retraining", BRANCH, "sample", "gpu")
    assert len(stub.pipelines) == 1
    names = [version["display_name"] for version in stub.versions[1:]]
    assert [name.rpartition("-")[0] for name in names] == ["another-1xxx-cpu", "another-1xxx-gpu"]
    monkeypatch.setattr(cluster, "GRAPHS", {"retraining": cluster.GRAPHS["collection"]})
    cluster.submit("retraining", BRANCH, "sample", "cpu")  # the same code and profile with another content
    assert len({version["display_name"] for version in stub.versions}) == 4


def test_of_two_submits_at_once_both_take_what_the_first_created(stub: Stub) -> None:
    cluster.submit("retraining", BRANCH, "sample", "cpu")
    stub.hidden = {"experiments", "pipelines", "versions"}
    cluster.submit("retraining", BRANCH, "sample", "cpu")
    assert not stub.hidden
    assert [len(entries) for entries in (stub.experiments, stub.pipelines, stub.versions)] == [1, 1, 1]
    first, second = stub.runs
    assert first.pipeline_version_reference == second.pipeline_version_reference
    assert first.experiment_id == second.experiment_id


def test_schedules_are_created_replaced_and_deleted_and_others_left_alone(stub: Stub) -> None:
    stub.recurring["theirs"] = {"recurring_run_id": "theirs", "display_name": "theirs", "description": "by hand"}
    declared = {name: schedule() for name in ("a", "b", "c")}
    assert planned_changes(declared, dry=True) == [("create", "a"), ("create", "b"), ("create", "c")]
    assert stub.schedules.keys() == {"theirs"}
    assert [stub.experiments, stub.pipelines, stub.versions] == [[], [], []]
    assert planned_changes(declared) == [("create", "a"), ("create", "b"), ("create", "c")]
    run = stub.schedules["a"]
    assert (run.trigger.cron_schedule.cron, run.max_concurrency, run.no_catchup) == ("0 0 3 * * 1", "1", True)
    assert run.mode == "ENABLE"
    assert run.runtime_config.parameters == {**declared["a"].parameters, "code_version": "c0dec0dec0de"}
    assert planned_changes(declared) == []

    changed = {"a": declared["a"], "b": schedule(cron="0 30 4 * * 1"), "d": schedule(enabled=False)}
    before = set(stub.recurring)
    changes = cluster.reconcile(changed, dry=True)
    assert [(change.action, change.name) for change in changes] == [("replace", "b"), ("delete", "c"), ("create", "d")]
    assert "0 0 3 * * 1" in changes[0].reason
    assert "0 30 4 * * 1" in changes[0].reason
    assert set(stub.recurring) == before
    assert planned_changes(changed) == [("replace", "b"), ("delete", "c"), ("create", "d")]
    assert stub.schedules.keys() == {"theirs", "a", "b", "d"}
    assert stub.schedules["b"].trigger.cron_schedule.cron == "0 30 4 * * 1"
    assert stub.schedules["d"].mode == "DISABLE"
    assert planned_changes({}) == [("delete", "a"), ("delete", "b"), ("delete", "d")]
    assert stub.schedules.keys() == {"theirs"}


def test_a_schedule_stays_if_the_server_refuses_its_successor(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    planned_changes({"a": schedule()})
    before = dict(stub.recurring)

    def refuse(*_: object) -> None:
        raise GltError("Kubeflow Pipelines: 400 Schedule cron is not supported")

    with monkeypatch.context() as patch:
        patch.setattr(Server, "create_recurring_run", refuse)
        with pytest.raises(GltError, match="not supported"):
            cluster.reconcile({"a": schedule(cron="99 99 99 99 99 99")}, dry=False)
    assert stub.recurring == before
    assert planned_changes({"a": schedule()}) == []


def test_a_schedule_that_two_reconciled_at_once_is_there_once(stub: Stub) -> None:
    planned_changes({"a": schedule()})
    (run,) = stub.recurring.values()
    stub.recurring["twin"] = {**run, "recurring_run_id": "twin"}
    assert planned_changes({"a": schedule()}, dry=True) == [("delete", "a")]
    assert planned_changes({"a": schedule()}) == [("delete", "a")]
    assert [one["recurring_run_id"] for one in stub.recurring.values()] == [run["recurring_run_id"]]
    assert planned_changes({"a": schedule()}) == []


def test_new_code_replaces_a_schedule(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    planned_changes({"a": schedule()})
    monkeypatch.setenv("GLT_CODE_VERSION", "another")
    assert planned_changes({"a": schedule()}) == [("replace", "a")]


def test_the_declared_schedules_are_whole(stub: Stub) -> None:
    file = Path(__file__).parents[2] / "infra" / "schedules.yaml"
    declared = cluster.read_schedules(file)
    assert {one.graph for one in declared.values()} == {"collection", "retraining"}
    assert not any(one.enabled for one in declared.values())  # they name an example's repository
    assert [what for what, _ in planned_changes(declared)] == ["create"] * len(declared)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cron": "0 3 * * 1"}, "6 fields"),
        ({"graph": "ablation"}, "graph"),
        ({"crom": "x"}, "crom"),
        ({"parameters": {"recipes": "x"}}, "weekly: the graph retraining has no parameter recipes"),
        ({"parameters": {"recordings": BRANCH}}, "weekly: the graph retraining needs the parameter recipe"),
        (with_values(recipe="nope"), "schedules: weekly: unknown recipe 'nope'"),
        (with_values(recipe="{name: x"), "schedules: weekly: "),
        (with_values(recipe=5), "weekly: recipe: Input should be a valid string"),
        (with_values(recipe=None), "weekly: recipe: Input should be a valid string"),
        (with_values(recipe=""), "weekly: recipe: "),
        (with_values(recordings=None), "weekly: recordings: Input should be a valid string"),
        (with_values(recordings=""), "weekly: recordings '': a cluster cannot read that"),
        (with_values(recordings="./data"), "weekly: recordings './data': a cluster cannot read that"),
        (with_values(recordings="dvc+https://me:secret@git.lab/x@main"), "weekly: recordings dvc+https://...: an"),
        (with_values(nodes="many"), "weekly: nodes: Input should be a valid integer"),
        (with_values(nodes="2"), "weekly: nodes: Input should be a valid integer"),
        (with_values(nodes=0), "weekly: nodes: Input should be greater than or equal to 1"),
        (with_values(nodes=None), "weekly: nodes: Input should be a valid integer"),
        (with_values(nodes=True), "weekly: nodes: yes, no, true or false"),
        (with_values(accelerator="tpu"), "weekly: accelerator: "),
        (with_values(trials=[{"fraction": 2, "seed": 0}]), "weekly: trials.0.fraction: "),
        (with_values(trials="all"), "weekly: trials: "),
        (collection(landing="dvc+https://git.lab/x@main"), "weekly: address 'dvc+https://git.lab/x@main': write s3://"),
        (collection(landing="s3://key:secret@lab/x"), "weekly: recordings s3://...: an address"),
        (collection(into="s3://lab/x"), "weekly: recordings 's3://lab/x': write dvc+<git repository>@"),
        ({"profile": "local", "parameters": {}}, "for runs on this machine"),
        ({"profile": "tpu", "parameters": {}}, "accelerator profile 'tpu'"),
    ],
)
def test_a_wrong_schedule_is_reported(stub: Stub, tmp_path: Path, change: dict[str, Any], why: str) -> None:
    fields = {"graph": "retraining", "cron": "0 0 3 * * 1", "parameters": {}} | change
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"weekly": fields}))
    with pytest.raises(GltError, match=re.escape(why)) as caught:
        cluster.reconcile(cluster.read_schedules(tmp_path / "s.yaml"), dry=True)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not stub.headers


@pytest.mark.parametrize("name", ["", "n" * 101, "a\nb", " a", "a\x1b[31m"])
def test_a_schedule_has_a_name_of_one_line(tmp_path: Path, name: str) -> None:
    fields = {"graph": "retraining", "cron": "0 0 3 * * 1", "parameters": {}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({name: fields}))
    with pytest.raises(GltError, match="name a schedule with 1 to 100 characters on one line") as caught:
        cluster.read_schedules(tmp_path / "s.yaml")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("graph", ["retraining", "collection"])
def test_every_parameter_of_a_scheduled_graph_is_checked(graph: str) -> None:
    assert cluster.GRAPHS[graph]("cpu").component_spec.inputs.keys() <= ScheduledValues.model_fields.keys()


def test_a_recipe_that_the_image_does_not_have_is_scheduled_as_text(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(load("sample").model_copy(update={"name": "mine"}).to_json())
    planned_changes({"a": schedule(parameters={"recordings": BRANCH, "recipe": str(tmp_path / "mine.yaml")})})
    assert load(stub.schedules["a"].runtime_config.parameters["recipe"]).name == "mine"


@pytest.mark.parametrize("enabled", [True, False])
def test_a_schedule_that_somebody_switched_is_replaced(stub: Stub, enabled: bool) -> None:
    declared = {"a": schedule(enabled=enabled)}
    planned_changes(declared)
    (run,) = stub.recurring.values()
    declared_mode, run["mode"] = run["mode"], "DISABLE" if enabled else "ENABLE"
    (change,) = cluster.reconcile(declared, dry=True)
    assert (change.action, change.reason) == (
        "replace", f"it is switched {'off' if enabled else 'on'} on the server -> {'on' if enabled else 'off'}"
    )  # fmt: skip
    assert planned_changes(declared) == [("replace", "a")]
    assert [one["mode"] for one in stub.recurring.values()] == [declared_mode]
    assert planned_changes(declared) == []


def test_a_server_that_refuses_or_is_not_named_is_reported(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.answers[f"{API}/recurringruns"] = (503, {"error": "no"})
    with pytest.raises(GltError, match="503 no; try again"):
        cluster.reconcile({"a": schedule()}, dry=False)
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    with pytest.raises(GltError, match="set it to the address"):
        cluster.reconcile({}, dry=True)
    with pytest.raises(GltError, match="give the path of a YAML file"):
        cluster.read_schedules(Path("nowhere.yaml"))


@pytest.mark.parametrize(
    ("health", "refused"),
    [
        ({"tag_name": "2.17.0"}, ""),
        ({"tag_name": "v2.16.0"}, ""),
        ({"tag_name": "2.14.3"}, "is 2.14.3, but the graphs need 2.16.0"),
        ({"tag_name": "2.5.0", "multi_user": True}, "is 2.5.0, but"),
        ({"apiServerTagName": "2.15.2", "apiServerReady": True, "frontendTagName": "2.17.0"}, "is 2.15.2, but"),
        ({"apiServerTagName": "2.17.0", "apiServerReady": True}, ""),
        ({"apiServerReady": False, "frontendTagName": "2.17.0"}, "its user interface answers, but not its API server"),
        ({"tag_name": "unknown"}, ""),
        ({"tag_name": None}, ""),
        ({}, ""),
    ],
)
def test_a_server_that_is_too_old_is_refused(
    stub: Stub, health: dict[str, Any], refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    stub.health = health
    if not refused:
        with caplog.at_level(logging.WARNING):
            assert cluster.reconcile({}, dry=True) == []
        known = any("2.1" in str(value) for value in health.values())
        assert ("does not say its release" in caplog.text) == (not known)
        return
    for act in (lambda: cluster.reconcile({}, dry=True), lambda: cluster.submit("retraining", BRANCH, "sample", "cpu")):
        with pytest.raises(GltError, match=re.escape(refused)):
            act()
    assert not stub.experiments


def test_plugins_are_told_only_to_servers_that_know_them(stub: Stub) -> None:
    stub.health = {"tag_name": "2.16.1"}
    cluster.submit("retraining", BRANCH, "sample", "cpu")
    planned_changes({"a": schedule()})
    assert stub.runs[0].plugins_input is None
    assert stub.schedules["a"].plugins_input is None
    stub.health = {"tag_name": "unknown"}
    stub.plugins = False
    cluster.submit("retraining", BRANCH, "sample", "cpu")
    assert stub.runs[1].plugins_input is None


def test_a_collection_records_nothing_in_mlflow(stub: Stub) -> None:
    parameters = {"landing": "s3://landing/lab", "recipe": "ntu60-xsub", "into": BRANCH}
    planned_changes({"a": schedule(graph="collection", parameters=parameters), "b": schedule()})
    assert stub.schedules["a"].plugins_input == {"mlflow": {"disabled": True}}
    assert stub.schedules["b"].plugins_input == {"mlflow": {"experiment_name": "ntu60-xsub"}}


def test_a_schedule_whose_version_was_deleted_is_replaced(stub: Stub) -> None:
    planned_changes({"a": schedule()})
    (version,) = stub.versions
    assert stub.schedules["a"].pipeline_version_reference.pipeline_version_id == version["pipeline_version_id"]
    assert stub.schedules["a"].pipeline_spec is None
    stub.versions.clear()
    assert planned_changes({"a": schedule()}, dry=True) == [("replace", "a")]
    assert not stub.versions
    assert planned_changes({"a": schedule()}) == [("replace", "a")]
    assert planned_changes({"a": schedule()}) == []


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({}, {"authorization": None, "cookie": None}),
        ({"TOKEN": "secret"}, {"authorization": "Bearer secret", "cookie": None}),
        ({"COOKIES": "authservice_session=MTY"}, {"authorization": None, "cookie": "authservice_session=MTY"}),
        ({"SA_TOKEN_PATH": "token"}, {"authorization": "Bearer projected", "cookie": None}),
    ],
)
def test_three_ways_to_log_in(
    stub: Stub, variables: dict[str, str], sent: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("projected\n")
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(f"KF_PIPELINES_{name}", value)
    planned_changes({"a": schedule()})
    assert len(stub.headers) > 5
    for headers in stub.headers:
        assert {name: headers.get(name) for name in sent} == sent


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"TOKEN": "a", "COOKIES": "b=c"}, "KF_PIPELINES_TOKEN and KF_PIPELINES_COOKIES: each is another way"),
        ({"TOKEN": "a", "COOKIES": "b=c", "SA_TOKEN_PATH": "d"}, "set only one of them"),
        ({"TOKEN": "a\nb"}, "KF_PIPELINES_TOKEN: it holds a line break"),
        ({"COOKIES": "MTY"}, "KF_PIPELINES_COOKIES: not a cookie; give name=value"),
        ({"SA_TOKEN_PATH": "absent"}, "KF_PIPELINES_SA_TOKEN_PATH: [Errno 2]"),
        ({"SA_TOKEN_PATH": "empty"}, "empty holds no token"),
    ],
)
def test_a_log_in_that_cannot_work_is_refused_before_anything_is_sent(
    stub: Stub, variables: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty").write_text("\n")
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(f"KF_PIPELINES_{name}", value)
    with pytest.raises(GltError, match=re.escape(why)):
        cluster.reconcile({}, dry=True)
    assert not stub.headers


@pytest.mark.parametrize(
    ("path", "status", "body", "why"),
    [
        (
            "/healthz",
            200,
            b"<html>Log in to Dex</html>",
            "a web page, perhaps to log in; correct KF_PIPELINES_ENDPOINT",
        ),
        ("/experiments", 200, b"<html>Log in to Dex</html>", "a web page, perhaps to log in; correct KF_PIPELINES_"),
        ("/healthz", 200, ["other"], "the answer does not come from Kubeflow Pipelines"),
        ("/healthz", 401, {"error": "no"}, "401 no; log in by KF_PIPELINES_TOKEN, KF_PIPELINES_COOKIES or"),
        ("/experiments", 403, b"RBAC: access denied", "403 Forbidden; log in by"),
        ("/healthz", 404, b"", "404 Not Found; check KF_PIPELINES_ENDPOINT: glt needs the API v2beta1"),
        ("/experiments", 500, {"message": "a\n\x1b[31mb" + "x" * 9000, "code": 13}, "500 a %1B[31mbxxx"),
        ("/recurringruns", 502, b"\xff", "502 Bad Gateway"),
        ("/recurringruns", 200, None, "the answer does not come from Kubeflow Pipelines"),
        ("/pipelines/upload", 200, {}, "the answer does not come from Kubeflow Pipelines (it has no id)"),
        ("/pipelines", 429, {"message": "slow"}, "429 slow; it has too much to do; try again later"),
    ],
)
def test_errors_of_the_server_are_one_line(stub: Stub, path: str, status: int, body: object, why: str) -> None:
    stub.answers[API + path] = (status, body)
    with pytest.raises(GltError) as caught:
        cluster.reconcile({"a": schedule()}, dry=False)
    assert why in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("answer", [[], {}, None, {"run_id": ""}])
def test_a_run_without_an_id_was_not_started(stub: Stub, answer: object) -> None:
    stub.answers[f"{API}/runs"] = (200, answer)
    with pytest.raises(GltError, match="the answer does not come from Kubeflow Pipelines"):
        cluster.submit("retraining", BRANCH, "sample", "cpu")


def test_a_schedule_of_ours_without_a_name_is_deleted(stub: Stub) -> None:
    planned_changes({"a": schedule()})
    (run,) = stub.recurring.values()
    stub.recurring["nameless"] = {"recurring_run_id": "nameless", "description": run["description"]}
    assert planned_changes({"a": schedule()}) == [("delete", "")]
    assert stub.recurring.keys() == {run["recurring_run_id"]}


def test_on_a_server_with_profiles_everything_is_in_a_namespace(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.health["multi_user"] = True
    with pytest.raises(GltError, match="has Kubeflow profiles; set KF_PIPELINES_NAMESPACE to the namespace of yours"):
        cluster.submit("retraining", BRANCH, "sample", "cpu")
    monkeypatch.setenv("KF_PIPELINES_NAMESPACE", "lab")
    cluster.submit("retraining", BRANCH, "sample", "cpu")
    assert [one["namespace"] for one in (*stub.experiments, *stub.pipelines)] == ["lab", "lab"]
    stub.health["multi_user"] = False
    stub.experiments.clear()
    cluster.submit("retraining", BRANCH, "sample", "cpu")
    assert "namespace" not in stub.experiments[0]  # a server without profiles takes none


def test_a_password_in_the_address_is_not_shown(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", stub.address.replace("://", "://me:secret@"))
    with caplog.at_level(logging.INFO):
        cluster.submit("retraining", BRANCH, "sample", "cpu")
    assert f"{stub.address}/#/runs/details/run-1" in caplog.text
    stub.health["multi_user"] = True
    stub.answers[f"{API}/runs"] = (500, {"error": "no"})
    messages = []
    for namespace in ("", "lab"):
        monkeypatch.setenv("KF_PIPELINES_NAMESPACE", namespace)
        with pytest.raises(GltError) as caught:
            cluster.submit("retraining", BRANCH, "sample", "cpu")
        messages.append(str(caught.value))
    assert all(stub.address in message for message in messages)
    assert "secret" not in "".join((*messages, caplog.text))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("collection", BRANCH, "sample", "cpu"), "submit training, retraining or ablation"),
        (("retraining", BRANCH, "sample", "local"), "for runs on this machine"),
        (("retraining", BRANCH, "sample", "gpu-node"), "did you mean gpu-nodes"),
        (
            ("retraining", "s3://lab/" + "x" * 130_000, "sample", "cpu"),
            "at most 120,000; the largest is recordings with 130,011 bytes",
        ),
        (("retraining", "./nope", "sample", "cpu"), "recordings './nope': a cluster cannot read that"),
        (("retraining", " s3://lab", "sample", "cpu"), "a cluster cannot read that"),
        (("retraining", "s3:///x", "sample", "cpu"), "write s3://bucket/prefix"),
        (("retraining", "dvc+https://git.lab/glt.git", "sample", "cpu"), "write dvc+<git repository>@"),
        (("retraining", "dvc+../glt@main", "sample", "cpu"), "a cluster cannot read a repository of this machine"),
        (("retraining", "dvc+file:///srv/glt@main", "sample", "cpu"), "a cluster cannot read a repository of this"),
    ],
)
def test_a_wrong_submit_is_refused_before_anything_is_sent(stub: Stub, arguments: Any, why: str) -> None:
    with pytest.raises(GltError, match=re.escape(why)):
        cluster.submit(*arguments)
    assert not stub.headers


def test_a_schedule_with_too_large_parameters_is_refused(stub: Stub) -> None:
    large = {"recordings": BRANCH, "recipe": "sample", "trials": [{"fraction": 0.05, "seed": n} for n in range(5000)]}
    with pytest.raises(GltError, match=r"the largest is trials with .* fewer labelled fractions or seeds"):
        cluster.reconcile({"a": schedule(parameters=large)}, dry=False)
    assert not stub.headers
