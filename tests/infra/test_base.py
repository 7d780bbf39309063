"""infra/k8s: every document is valid Kubernetes, and every workload keeps the rules an operator relies on."""

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import kubernetes_validate
import pytest

from infra.local.manifests import WORKLOADS, pod
from infra.local.stack import Stack
from pipelines.profiles import GPU_NODE_LABEL, GPU_RESOURCE

from .conftest import ROOT, Document, assemble, render

FOLDERS = ["base", "copy", "pipelines", "restore"]
OVERLAYS = ["overlays/dev", "overlays/gpu"]
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def by_name(documents: list[Document], kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def workloads(documents: list[Document]) -> dict[str, Document]:
    """Everything that has pods: servers and jobs."""
    found = {document["metadata"]["name"]: document for document in documents if document["kind"] in WORKLOADS}
    assert found
    return found


def servers(documents: list[Document]) -> dict[str, Document]:
    return by_name(documents, "Deployment") | by_name(documents, "StatefulSet")


def labels(workload: Document) -> dict[str, str]:
    specification = workload["spec"].get("jobTemplate", workload)["spec"]
    return dict(specification["template"]["metadata"]["labels"])


def containers(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    for name, workload in workloads(documents).items():
        for container in pod(workload)["containers"] + pod(workload).get("initContainers", []):
            yield f"{name}/{container['name']}", container


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number: cores, bytes."""
    units = {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", text).groups()
    return int(number) * units[unit]


def environment(container: Document, kind: str) -> set[tuple[str, str | None]]:
    """(name, key) of each `kind` ("secret", "configMap") that the environment needs; None: all its keys."""
    one = [entry["valueFrom"].get(f"{kind}KeyRef") for entry in container.get("env", []) if "valueFrom" in entry]
    every = [entry.get(f"{kind}Ref") for entry in container.get("envFrom", [])]
    needed = [reference for reference in one + every if reference and not reference.get("optional")]
    return {(reference["name"], reference.get("key")) for reference in needed}


@pytest.mark.parametrize("folder", FOLDERS)
def test_documents_match_the_schemas_strictly(folder: str) -> None:
    for document in assemble(folder):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_strict_validation_refuses_an_unknown_field(base: list[Document]) -> None:
    broken = json.loads(json.dumps(by_name(base, "Deployment")["mlflow"]))
    broken["spec"]["template"]["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def order(document: Document) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


@needs_kubectl
@pytest.mark.parametrize("folder", FOLDERS)
def test_kubectl_renders_what_the_tests_assemble(folder: str) -> None:
    assert sorted(render(folder), key=order) == sorted(assemble(folder), key=order)


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_keep_the_schemas_and_the_rules_of_the_base(overlay: str) -> None:
    documents = render(overlay)
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    assert {order(document) for document in documents} >= {order(d) for d in assemble("base") + assemble("pipelines")}
    for rule in (
        test_pods_run_as_a_numeric_user_with_the_default_seccomp_profile,
        test_containers_hold_no_privilege_and_write_only_to_volumes,
        test_containers_have_requests_and_limits,
        test_images_are_pinned_to_a_version_and_name_no_registry,
        test_no_credential_stands_in_a_manifest,
        test_the_quota_has_room_for_all_pods_and_volumes,
    ):
        rule(documents)


@needs_kubectl
def test_the_gpu_overlay_keeps_servers_off_the_nodes_whose_gpus_it_counts() -> None:
    documents = render("overlays/gpu")
    for name, workload in workloads(documents).items():
        affinity = pod(workload)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (rule,) = affinity["nodeSelectorTerms"][0]["matchExpressions"]
        assert rule == {"key": GPU_NODE_LABEL[0], "operator": "DoesNotExist"}, name
    quota = by_name(documents, "ResourceQuota")["glt-gpus"]
    assert quota["metadata"]["namespace"] == by_name(documents, "ConfigMap")["glt-tracking"]["metadata"]["namespace"]
    assert f"requests.{GPU_RESOURCE}" in quota["spec"]["hard"]


@needs_kubectl
def test_a_small_node_can_hold_the_dev_overlay() -> None:
    requests = [
        container["resources"]["requests"]
        for workload in servers(render("overlays/dev")).values()
        for container in pod(workload)["containers"]
    ]
    assert sum(quantity(request["cpu"]) for request in requests) <= 0.5
    assert sum(quantity(request["memory"]) for request in requests) <= 2 * 2**30


def immutable(overlay: str) -> dict[str, object]:
    """Fields that Kubernetes never changes: templates of a StatefulSet, selectors, access modes of a claim."""
    found: dict[str, object] = {}
    for document in render(overlay):
        specification = document.get("spec", {})
        if document["kind"] == "StatefulSet":
            fields = {key: specification.get(key) for key in ("selector", "serviceName", "volumeClaimTemplates")}
            found[document["metadata"]["name"]] = fields
        if document["kind"] == "Deployment":
            found[document["metadata"]["name"]] = specification["selector"]
        if document["kind"] == "PersistentVolumeClaim":
            claim = {key: specification.get(key) for key in ("accessModes", "storageClassName", "volumeMode")}
            found[document["metadata"]["name"]] = claim
    return found


@needs_kubectl
def test_what_forbids_to_change_overlays_is_what_the_docs_name() -> None:
    dev, gpu = (immutable(overlay) for overlay in OVERLAYS)
    assert dev.keys() == gpu.keys() == {"database", "object-store", "mlflow", "backups", "glt-checkpoints"}
    differing = {name for name in dev if dev[name] != gpu[name]}
    assert differing == {"database", "object-store", "glt-checkpoints"}
    text = (ROOT / "docs" / "cluster.md").read_text()
    assert "(`database`, `object-store`, `glt-checkpoints`) cannot be changed" in text


def test_the_namespace_enforces_the_restricted_standard(base: list[Document]) -> None:
    assert by_name(base, "Namespace")["glt"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_pods_run_as_a_numeric_user_with_the_default_seccomp_profile(base: list[Document]) -> None:
    for name, workload in workloads(base).items():
        security = pod(workload)["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name


def test_containers_hold_no_privilege_and_write_only_to_volumes(base: list[Document]) -> None:
    for name, container in containers(base):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name


def test_containers_have_requests_and_limits(base: list[Document]) -> None:
    for name, container in containers(base):
        for bound in ("requests", "limits"):
            assert set(container["resources"][bound]) == {"cpu", "memory"}, name


def test_servers_have_probes_on_a_port_they_declare(base: list[Document]) -> None:
    for name, workload in servers(base).items():
        (container,) = pod(workload)["containers"]
        ports = {port["name"] for port in container["ports"]}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            assert "exec" in probe or probe["httpGet"]["port"] in ports, (name, kind)


def test_images_are_pinned_to_a_version_and_name_no_registry(base: list[Document]) -> None:
    for name, container in containers(base):
        assert re.fullmatch(r"[a-z][a-z-]*(/[a-z][a-z-]*)?:\d+(\.\d+)+", container["image"]), name


def test_the_quota_has_room_for_all_pods_and_volumes(base: list[Document]) -> None:
    """Also while a pod is replaced."""
    base = [document for document in base if document["metadata"].get("namespace") == "glt"]
    hard = by_name(base, "ResourceQuota")["servers"]["spec"]["hard"]
    assert 2 * len(workloads(base)) <= int(hard["pods"])
    for bound in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            used = [
                pod(workload)["containers"][0]["resources"][bound][resource] for workload in workloads(base).values()
            ]
            assert sum(map(quantity, used)) <= quantity(hard[f"{bound}.{resource}"]), (bound, resource)
    claims = [claim for server in servers(base).values() for claim in server["spec"].get("volumeClaimTemplates", [])]
    claims.append(by_name(base, "PersistentVolumeClaim")["backups"])
    assert len(claims) < int(hard["persistentvolumeclaims"])
    sizes = [claim["spec"]["resources"]["requests"]["storage"] for claim in claims]
    assert sum(map(quantity, sizes)) <= quantity(hard["requests.storage"])


def test_our_image_carries_the_version_of_the_distribution(base: list[Document]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    ours = {container["image"] for _, container in containers(base) if container["image"].startswith("glt-")}
    assert ours == {f"glt-mlflow:{version}"}


def test_files_are_copied_by_a_pod_like_that_of_the_backup(base: list[Document]) -> None:
    (copy,) = (document["spec"] for document in assemble("copy"))
    backup = pod(by_name(base, "CronJob")["backup"])
    (files,), database = copy["containers"], backup["initContainers"][0]
    for field in ("serviceAccountName", "automountServiceAccountToken", "restartPolicy", "securityContext"):
        assert copy[field] == backup[field], field
    for field in ("image", "resources", "securityContext"):
        assert files[field] == database[field], field
    assert copy["volumes"] == [volume for volume in backup["volumes"] if volume["name"] == "backups"]


def test_service_accounts_exist_and_get_no_token(base: list[Document]) -> None:
    accounts = by_name(base, "ServiceAccount")
    for name, workload in workloads(base).items():
        assert pod(workload)["serviceAccountName"] in accounts, name
        assert pod(workload)["automountServiceAccountToken"] is False, name


def test_secrets_are_made_by_the_script_and_by_nothing_else(base: list[Document], secrets: list[Document]) -> None:
    assert not by_name(base, "Secret")
    made = {document["metadata"]["name"]: document for document in secrets}
    wanted = {reference for _, container in containers(base) for reference in environment(container, "secret")}
    wanted |= {
        (volume["secret"]["secretName"], None)
        for workload in workloads(base).values()
        for volume in pod(workload).get("volumes", [])
        if "secret" in volume
    }
    for name, key in wanted:
        assert made[name]["metadata"]["namespace"] == "glt"
        assert key is None or key in made[name]["stringData"]
    assert {name for name, _ in wanted} == set(made) - {"glt-object-store", "glt-mlflow", "landing-recorders"}


def test_no_credential_stands_in_a_manifest(base: list[Document]) -> None:
    for name, container in containers(base):
        for entry in container.get("env", []):
            literal = "value" in entry and re.search("PASSWORD|SECRET|TOKEN|ACCESS_KEY", entry["name"])
            assert not literal, (name, entry["name"])
        assert not re.search(r"://[^/@ ]*:[^/@ ]*@", " ".join(container.get("command", []))), name


def test_config_maps_and_volumes_exist(base: list[Document]) -> None:
    maps = by_name(base, "ConfigMap")
    for name, container in containers(base):
        assert {reference for reference, _ in environment(container, "configMap")} <= set(maps), name
    for name, workload in workloads(base).items():
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        volumes = claims | {volume["name"] for volume in pod(workload).get("volumes", [])}
        for volume in pod(workload).get("volumes", []):
            assert volume.get("configMap", {}).get("name") in {None, *maps}, name
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim in {None, *by_name(base, "PersistentVolumeClaim")}, name
        for container in pod(workload)["containers"] + pod(workload).get("initContainers", []):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, name


def test_services_reach_a_port_of_the_pods_they_select(base: list[Document]) -> None:
    for name, service in by_name(base, "Service").items():
        (workload,) = [
            workload
            for workload in servers(base).values()
            if labels(workload).items() >= service["spec"]["selector"].items()
        ]
        ports = {port["name"] for container in pod(workload)["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name
    for name, workload in by_name(base, "StatefulSet").items():
        assert workload["spec"]["serviceName"] in by_name(base, "Service"), name


def test_network_is_closed_but_for_rules_on_real_pods_and_ports(base: list[Document]) -> None:
    policies = by_name(base, "NetworkPolicy")
    assert policies.pop("default-deny")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    there = {labels(workload)["app.kubernetes.io/name"] for workload in workloads(base).values()}
    for name, policy in policies.items():
        selected = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        assert selected in there, name
        opened = {port["port"] for rule in policy["spec"].get("ingress", ()) for port in rule["ports"]}
        ports = pod(servers(base)[selected])["containers"][0]["ports"] if selected in servers(base) else ()
        assert opened == {port["containerPort"] for port in ports}, name


def test_who_may_speak_to_a_store_is_let_in(base: list[Document]) -> None:
    policies = by_name(base, "NetworkPolicy")
    for client in ("mlflow", "backup"):
        for rule in policies[client]["spec"]["egress"]:
            for selector in (to["podSelector"] for to in rule["to"] if "podSelector" in to):
                (server,) = selector["matchLabels"].values()
                assert f'"{client}"' in json.dumps(policies[server]["spec"]["ingress"]), (client, server)


def mlflow_flags(base: list[Document]) -> dict[str, str]:
    (container,) = pod(by_name(base, "Deployment")["mlflow"])["containers"]
    return dict(flag.removeprefix("--").split("=", 1) for flag in container["command"][2:])


def test_pipeline_pods_address_the_server_by_a_host_it_accepts(base: list[Document], pipelines: list[Document]) -> None:
    uri = by_name(pipelines, "ConfigMap")["glt-tracking"]["data"]["MLFLOW_TRACKING_URI"]
    host = uri.removeprefix("http://")
    name, namespace, port = re.fullmatch(r"([a-z-]+)\.([a-z-]+):(\d+)", host).groups()
    service = by_name(base, "Service")[name]
    assert service["metadata"]["namespace"] == namespace
    assert [entry["port"] for entry in service["spec"]["ports"]] == [int(port)]
    assert host in mlflow_flags(base)["allowed-hosts"].split(",")


def test_mlflow_and_its_init_containers_use_the_same_stores(base: list[Document]) -> None:
    buckets, tables, accounts = pod(by_name(base, "Deployment")["mlflow"])["initContainers"]
    flags = mlflow_flags(base)
    assert f"database_uri = {flags['backend-store-uri']}" in accounts_file(base)
    assert accounts["env"] == tables["env"]
    assert tables["command"][-1] == flags["backend-store-uri"]
    # SQLAlchemy's own choice of a driver for postgresql:// is not the one in the image.
    assert flags["backend-store-uri"].startswith("postgresql+psycopg2://")
    assert "psycopg2-binary==" in (ROOT / "infra" / "image" / "locks" / "mlflow.txt").read_text()
    assert flags["artifacts-destination"].removeprefix("s3://") in buckets["command"][3:]
    assert buckets["command"][2] == by_name(base, "ConfigMap")["mlflow-server"]["data"]["MLFLOW_S3_ENDPOINT_URL"]


def accounts_file(base: list[Document]) -> str:
    return str(by_name(base, "ConfigMap")["mlflow-accounts"]["data"]["accounts.ini"])


def test_nobody_uses_mlflow_without_an_account(base: list[Document], secrets: list[Document]) -> None:
    assert mlflow_flags(base)["app-name"] == "glt"
    assert "default_permission = READ" in accounts_file(base)
    _, _, accounts = pod(by_name(base, "Deployment")["mlflow"])["initContainers"]
    keys = {name: document["stringData"] for name, document in by_name(secrets, "Secret").items()}
    for name in accounts["command"][2:]:
        assert f"MLFLOW_PASSWORD_{name.upper()}" in keys["mlflow-accounts"]
    assert keys["glt-mlflow"]["MLFLOW_TRACKING_USERNAME"] in accounts["command"][2:]
    assert keys["glt-mlflow"]["MLFLOW_TRACKING_PASSWORD"] == keys["mlflow-accounts"]["MLFLOW_PASSWORD_PIPELINES"]


def test_what_is_backed_up_is_what_is_restored_and_in_the_other_order(base: list[Document]) -> None:
    """What the database speaks of is there before it is."""
    saved, restored = pod(by_name(base, "CronJob")["backup"]), pod(by_name(base, "Job")["restore"])
    (objects,), (database,) = saved["containers"], saved["initContainers"]
    copied = re.findall(r"store:(\w+) (backup:\w+)", objects["command"][-1])
    assert copied
    back = restored["initContainers"][0]
    assert re.findall(r"(backup:\w+) store:(\w+)", back["command"][-1]) == [(place, bucket) for bucket, place in copied]
    assert database["command"][0] == "pg_dump"
    assert restored["containers"][0]["command"][0] == "pg_restore"
    for container in (objects, back):
        last = {"secretRef": {"name": "backup-encryption", "optional": True}}
        assert container["envFrom"][-1] == last  # after the ConfigMap, whose settings it replaces


def test_mlflow_server_knows_every_flag_it_is_given(base: list[Document]) -> None:
    server = pytest.importorskip("mlflow.cli").server
    known = {option for parameter in server.params for option in parameter.opts}
    assert {f"--{flag}" for flag in mlflow_flags(base)} <= known


def test_the_server_finds_its_app_where_the_image_has_it(base: list[Document], tmp_path: Path) -> None:
    """As in the image, so on this machine, where a stack puts infra/image in the place of /opt."""
    settings = by_name(base, "ConfigMap")["mlflow-server"]["data"]
    (ours,) = distributions(path=[str(ROOT / "infra" / "image")])
    (found,) = ours.entry_points
    assert (found.group, found.name) == ("mlflow.app", mlflow_flags(base)["app-name"])
    module, _, function = found.value.partition(":")
    assert f"def {function}()" in (ROOT / "infra" / "image" / f"{module}.py").read_text()
    text = (ROOT / "infra" / "image" / "Containerfile").read_text()
    copied = [line.split()[1:] for line in text.splitlines() if line.startswith("COPY ") and "/opt" in line.split()[-1]]
    names = {Path(source).name for *sources, _ in copied for source in sources}
    assert {f"{module}.py", "answers.py", "glt_mlflow.dist-info"} <= names
    assert (ROOT / "infra/image/answers.py").resolve() == ROOT / "glt/lifecycle/answers.py"
    stack = Stack(tmp_path, images={})
    (container,) = stack.pod("mlflow")["containers"]
    assert settings["PYTHONPATH"] == "/opt"
    assert stack.command("mlflow", container)[1]["PYTHONPATH"] == str(ROOT / "infra" / "image")


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("mlflow-artifacts:/1/models/m-1/artifacts", True),
        ("models:/m-1", True),
        ("models:/glt-sbu/1", True),
        ("runs:/1/model", True),
        ("dummy-source", True),
        ("prompt-template", True),
        ("mlflow-artifacts://elsewhere/1", False),
        ("s3://landing/x", False),
        ("S3://landing/x", False),
        (" s3://landing/x", False),
        ("/etc", False),
        ("file:///etc", False),
        ("dummy-source/../etc", False),
        ("http://elsewhere/api/2.0/mlflow-artifacts/artifacts/1", False),
    ],
)
def test_a_version_is_made_of_what_the_server_stores(base: list[Document], source: str, taken: bool) -> None:
    rule = by_name(base, "ConfigMap")["mlflow-server"]["data"]["MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"]
    assert bool(re.search(rule, source)) is taken  # as MLflow applies it
