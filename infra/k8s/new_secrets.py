"""Print the Secrets that infra/k8s refers to, with new random credentials.

`python infra/k8s/new_secrets.py | kubectl create -f -` hands them to the cluster; nothing is written to disk.
The printed list is the documentation of what each Secret holds.
"""

import argparse
import json
import secrets
from typing import Any


def secret(name: str, namespace: str, **data: str) -> dict[str, Any]:
    """A v1 Secret with plain-text `data`."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "stringData": data,
    }


def new_secrets(namespace: str, pipelines_namespace: str) -> dict[str, Any]:
    """A v1 List: passwords of the database and of MLflow's accounts, S3 identities as holders and store read them.

    Of the store `admin` creates buckets; `mlflow` uses the bucket of that name, `pipelines` the recordings and the
    landing, `recorders`, who deliver, can only write to the landing, and `backup` only reads. Of MLflow `admin` may do
    all, `pipelines` what a pipeline does.
    """
    rights = {
        "admin": ["Admin", "Read", "Write", "List", "Tagging"],
        "mlflow": [f"{right}:mlflow" for right in ("Read", "Write", "List", "Tagging")],
        "pipelines": [
            f"{right}:{bucket}"
            for bucket in ("recordings", "landing")
            for right in ("Read", "Write", "List", "Tagging")
        ],
        "recorders": ["Write:landing"],
        "backup": [f"{right}:{bucket}" for bucket in ("mlflow", "recordings") for right in ("Read", "List")],
    }
    keys = {name: {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)} for name in rights}
    identities = [{"name": name, "credentials": [keys[name]], "actions": rights[name]} for name in rights]

    passwords = {name: secrets.token_urlsafe(18) for name in ("admin", "pipelines")}

    def aws(name: str) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": keys[name]["accessKey"], "AWS_SECRET_ACCESS_KEY": keys[name]["secretKey"]}

    items = [
        secret("database", namespace, password=secrets.token_hex(24)),
        secret("object-store-identities", namespace, **{"identities.json": json.dumps({"identities": identities})}),
        secret("object-store-admin", namespace, **aws("admin")),
        secret("mlflow-object-store", namespace, **aws("mlflow")),
        secret("backup-object-store", namespace, **aws("backup")),
        secret("landing-recorders", namespace, **aws("recorders")),
        secret(
            "mlflow-accounts",
            namespace,
            MLFLOW_FLASK_SERVER_SECRET_KEY=secrets.token_hex(32),
            **{f"MLFLOW_PASSWORD_{name.upper()}": password for name, password in passwords.items()},
        ),
        secret("glt-object-store", pipelines_namespace, **aws("pipelines")),
        secret(
            "glt-mlflow",
            pipelines_namespace,
            MLFLOW_TRACKING_USERNAME="pipelines",
            MLFLOW_TRACKING_PASSWORD=passwords["pipelines"],
        ),
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Print the Secrets that infra/k8s refers to, with new random credentials."
    )
    parser.add_argument("--namespace", default="glt", help="where MLflow and its stores run")
    parser.add_argument("--pipelines-namespace", default="kubeflow", help="where pipeline pods run")
    arguments = parser.parse_args()
    print(json.dumps(new_secrets(arguments.namespace, arguments.pipelines_namespace), indent=2))
