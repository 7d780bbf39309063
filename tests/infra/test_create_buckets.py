"""infra/image/create_buckets.py: creates what is missing, repeats without harm, and says in one line why it cannot."""

import runpy
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from glt.lifecycle.sources.bucket import QUARANTINE

from .conftest import ROOT

boto3 = pytest.importorskip("boto3")
from botocore.stub import Stubber  # noqa: E402

SCRIPT = ROOT / "infra" / "image" / "create_buckets.py"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_MAX_ATTEMPTS": "1"}


@pytest.mark.parametrize(
    ("there", "created"), [([], ["mlflow", "recordings"]), (["mlflow"], ["recordings"]), (["recordings", "mlflow"], [])]
)
def test_creates_only_what_is_missing(there: list[str], created: list[str]) -> None:
    store = boto3.client(
        "s3", endpoint_url="http://object-store", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    with Stubber(store) as stub:
        listed = [{"Name": name, "CreationDate": datetime.now(UTC)} for name in there]
        stub.add_response("list_buckets", {"Buckets": listed}, {})
        for name in created:
            stub.add_response("create_bucket", {}, {"Bucket": name})
        assert runpy.run_path(str(SCRIPT))["create_buckets"](store, ["mlflow", "recordings"]) == created
        stub.assert_no_pending_responses()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_a_store_that_is_away_is_one_line_and_a_failure() -> None:
    done = run("http://127.0.0.1:9", "mlflow")
    assert done.returncode == 1
    assert done.stderr.startswith("cannot create the buckets at http://127.0.0.1:9: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["http://127.0.0.1:9"]])
def test_missing_arguments_show_the_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (1, "usage: create_buckets.py ENDPOINT BUCKET...\n")


def test_the_policy_protects_the_folder_of_verdicts() -> None:
    script = runpy.run_path(str(SCRIPT))
    assert script["QUARANTINE"] == QUARANTINE
    denied = {statement["Resource"] for statement in script["policy"]("landing")["Statement"]}
    assert f"arn:aws:s3:::landing/{QUARANTINE}*" in denied
