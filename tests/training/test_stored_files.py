"""Files inside an artifact whose manifest fits are still data from outside: one refusal, whatever they hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from glt import artifact
from glt.data.clips import ClipStore
from glt.errors import GltError
from glt.motion.disentangle import Motions
from glt.training.classifier import ActionClassifier, load_classifier, save_classifier
from glt.training.encoder import build_encoder, load_encoder, save_encoder
from tests.conftest import small_recipe
from tests.data import stores

CONTENTS = {
    "empty": b"",
    "object": b"{}",
    "number": b"-0.0",
    "list": b"[[]]",
    "digits": b"9" * 5000,
    "deep": b"[" * 200_000,
    "bytes": b"\xff\x00PAR1",
    "large sizes": b'{"model": {"depth": 256, "heads": 512}, "persons": 10000, "joints": 10000, "global_tokens": 1}',
}
OPEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "skeleton.json": ("clips", ClipStore),
    "rejected.parquet": ("clips", ClipStore),
    "segments/one/clips.parquet": ("clips", ClipStore),
    "segments/one/present.npy": ("clips", lambda path: ClipStore(path).clip(0)),
    "segments/one/frames.npy": ("clips", lambda path: ClipStore(path).clip(0)),
    "clips.parquet": ("motions", Motions),
    "displacement.json": ("motions", Motions),
    "present.npy": ("motions", Motions),
    "tokens.npy": ("motions", Motions),
    "config.json": ("encoder", load_encoder),
    "model.safetensors": ("encoder", load_encoder),
    "./config.json": ("classifier", load_classifier),
    "./model.safetensors": ("classifier", load_classifier),
}


@pytest.fixture(scope="module")
def artifacts(motions: Motions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artifact of each kind; read only."""
    folder, recipe = tmp_path_factory.mktemp("artifacts"), small_recipe()
    stores.store(folder / "clips", stores.recordings(2))
    shutil.copytree(motions.path, folder / "motions")
    encoder = build_encoder(recipe.model, motions)
    save_encoder(encoder, [{"epoch": 1.0}], folder / "encoder", {})
    probe = recipe.probe
    model = ActionClassifier(encoder, ["jump", "walk"], probe.features, probe.pool, probe.parts)
    save_classifier(model, motions, recipe, {}, {}, folder / "classifier", {})
    return folder


@pytest.mark.fault("an artifact's file is changed, and its manifest with it", "refused in one line")
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", OPEN)
def test_what_a_stored_file_holds_is_checked(artifacts: Path, tmp_path: Path, name: str, content: str) -> None:
    kind, open_it = OPEN[name]
    shutil.copytree(artifacts / kind, tmp_path / kind)
    info = artifact.open_artifact(tmp_path / kind, kind)
    (tmp_path / kind / name).write_bytes(CONTENTS[content])
    artifact.seal(tmp_path / kind, kind, info)
    with pytest.raises(GltError) as caught:
        open_it(tmp_path / kind)
    assert "\n" not in str(caught.value)


def test_artifacts_in_order_are_opened(artifacts: Path) -> None:
    for kind, open_it in OPEN.values():
        open_it(artifacts / kind)
