"""The registered model as a stranger meets it: MLflow loads it, clips go in, labels come out."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import torch
from mlflow.pyfunc import PyFuncModel

from glt.errors import GltError
from glt.lifecycle import registry, tracking
from glt.lifecycle.gate import already_in_service
from glt.lifecycle.tracking import Versions
from glt.motion.disentangle import Motions
from glt.reporter import Silent
from glt.serving.example import FRAMES
from glt.serving.model import Predictor
from glt.serving.pyfunc import _load_pyfunc
from glt.training.classifier import save_classifier
from glt.training.encoder import build_encoder
from glt.training.probe import fit_probe
from tests.conftest import LABELS, small_recipe, store
from tests.waiting import until


@pytest.fixture(scope="module")
def folder(motions: Motions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = small_recipe()
    result = fit_probe(build_encoder(recipe.model, motions), motions, recipe, torch.device("cpu"), Silent())
    tables = {"predictions": result.predictions, "validation": result.validation}
    place = tmp_path_factory.mktemp("pyfunc") / "classifier"
    save_classifier(result.model, motions, recipe, tables, result.metrics, place, {"data_version": "test"})
    return place


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PyFuncModel]:
    """The registered champion, as MLflow loads it."""
    recipe, versions = small_recipe(), Versions("data", "code")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLT_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with tracking.step(recipe, versions, "register") as run:
            verdict = already_in_service(["a"], ["a"], version="0", rules=recipe.gate)
            version = registry.register(folder, recipe, versions, verdict, run.run_id)
        registry.promote(version.name, version.version, "first")
        yield mlflow.pyfunc.load_model(f"models:/{version.name}@champion")


def test_it_answers_as_the_classifier_does(model: PyFuncModel, folder: Path) -> None:
    clips = [store().clips[number][0] for number in (0, 1, 2)]
    expected = Predictor(folder).predict(clips)
    lists = [clip.tolist() for clip in clips]
    for form in (clips, lists, pd.DataFrame({"frames": clips}), pd.DataFrame({"frames": lists})):
        answer = model.predict(form)
        assert list(answer) == ["label", "confidence"]
        assert answer["label"].tolist() == expected["label"].tolist()
        np.testing.assert_allclose(answer["confidence"], expected["confidence"], atol=1e-6)
    assert set(expected["label"]) <= set(LABELS)


def test_the_signature_says_what_goes_in_and_what_comes_out(model: PyFuncModel) -> None:
    signature = model.metadata.signature
    assert str(signature.inputs) == "[Array(Array(Array(Array(double)))) (required)]"
    assert [column.name for column in signature.outputs.inputs] == ["label", "confidence"]
    assert "frames, persons, joints, 3" in model.metadata.metadata["input"]


def test_the_input_example_is_answered_by_the_model_and_by_mlflow_s_command(
    model: PyFuncModel, folder: Path, tmp_path: Path
) -> None:
    assert np.shape(model.input_example) == (1, FRAMES, 1, 6, 3)
    (expected,) = Predictor(folder).predict(model.input_example)[["label", "confidence"]].to_dict("records")
    assert model.predict(model.input_example).to_dict("records") == [expected]
    stored = Path(registry.find(f"glt-{small_recipe().experiment}").source.removeprefix("file://"))
    request, answer = stored / "serving_input_example.json", tmp_path / "answer.json"
    command = f"models predict -m {stored} -i {request} -o {answer} -t json --env-manager local"
    subprocess.run([sys.executable, "-m", "mlflow", *command.split()], check=True, capture_output=True)
    ((given,),) = json.loads(answer.read_text()).values()
    assert given["label"] == expected["label"]
    assert given["confidence"] == pytest.approx(expected["confidence"], abs=1e-6)


LOAD = """
import sys, mlflow, glt
model = mlflow.pyfunc.load_model(sys.argv[1])
print(glt.__file__, glt.__path__, model.predict(model.input_example)["label"][0], sep="\\n")
"""


def test_it_loads_where_only_its_requirements_are_installed(model: PyFuncModel, folder: Path, tmp_path: Path) -> None:
    """The wheel is installed as its requirement says, into a folder that comes before this checkout."""
    stored = Path(registry.find(f"glt-{small_recipe().experiment}").source.removeprefix("file://"))
    (requirement,) = (
        line for line in (stored / "requirements.txt").read_text().splitlines() if line.startswith("glt ")
    )
    assert re.fullmatch(r"glt @ file:wheels/glt-0\.1\.0\+\w+-py3-none-any\.whl#sha256=[0-9a-f]{64}", requirement)
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", str(tmp_path / "there")]
    subprocess.run([*command, requirement], cwd=stored, check=True, capture_output=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(stored)],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(tmp_path / "there")},
        check=True,
        capture_output=True,
        text=True,
    )
    file, places, label = done.stdout.splitlines()[-3:]
    assert file == str(tmp_path / "there" / "glt" / "__init__.py")
    assert places == str([str(tmp_path / "there" / "glt")])
    assert label == Predictor(folder).predict(model.input_example)["label"][0]
    other = requirement[:-4] + ("0000" if requirement[-4:] != "0000" else "1111")
    refused = subprocess.run([*command, other], cwd=stored, check=False, capture_output=True, text=True)
    assert "DO NOT MATCH THE HASHES" in refused.stderr


@pytest.fixture
def served(model: PyFuncModel) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`glt serve`, and where it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "glt", "serve", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or answers(address))
        yield process, address
    finally:
        process.terminate()
        print(process.communicate(timeout=60)[0])


def answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/ping", timeout=10).ok
    except requests.ConnectionError:
        return False


def test_mlflow_s_model_server_answers_and_ends_when_it_is_told_to(
    served: tuple[subprocess.Popen[str], str], folder: Path
) -> None:
    process, address = served
    clip = store().clips[0][0]
    answer = requests.post(f"{address}/invocations", json={"inputs": [clip.tolist()]}, timeout=60)
    ((expected,),) = [Predictor(folder).predict([clip]).to_dict("records")]
    (given,) = answer.json()["predictions"]
    assert given["label"] == expected["label"]
    assert given["confidence"] == pytest.approx(expected["confidence"], abs=1e-6)
    refused = requests.post(f"{address}/invocations", json={"inputs": [[[[0.0, 1.0]]]]}, timeout=60)
    assert refused.status_code == 400
    assert "give [frames, 1 to 2 persons, 6 joints of stick, 3]" in refused.text
    assert "stack_trace" not in refused.text
    assert "Traceback" not in refused.text
    process.terminate()
    process.wait(60)
    until(lambda: not answers(address), 30)  # and no child of it has the port


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([[[0.0, 1.0, 2.0]]], "frames"),
        ([[[[0.0, 1.0], [0.0]]]], "ragged"),
        ({"frames": [1]}, "column `frames`"),
    ],
)
def test_a_clip_of_another_form_is_one_clear_error(folder: Path, wrong: object, words: str) -> None:
    loaded = _load_pyfunc(str(folder))
    given = pd.DataFrame({"clips": [1]}) if isinstance(wrong, dict) else [wrong]
    with pytest.raises(GltError, match=words):
        loaded.predict(given)


def test_a_folder_that_is_not_whole_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(GltError, match="not a finished classifier folder"):
        _load_pyfunc(str(tmp_path))
