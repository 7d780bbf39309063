"""The pictures of docs/attention.md: attention of encoders trained on real recordings (the paper's Fig. 4, 5, A-C).

    python -m experiments.attention folder

The folder is that of `make results`. Three trainings, half an hour on 2 cores: nw-ucla, the same with the intervals {1}
alone (the second model of Fig. 4), and sbu, whose clips show two persons. What is there in runs/attention is not made
again. Writes docs/attention-*.png and results/attention.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import torch

from benchmarks.hardware import ROOT, commit, hardware
from experiments import protocols
from glt import artifact
from glt.recipe import Recipe, load, with_changes
from glt.settings import home
from glt.steps import attention, data, training

PICTURES = {"nw-ucla": ("temporal", "distance", "spatial", "positional"), "sbu": ("spatial",)}
ONE_INTERVAL = "intervals {1}"


def main() -> None:
    """Train the encoders that are missing, draw the figures and store the attended distances."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("recordings", type=Path)
    options = arguments.parse_args()
    os.environ.setdefault("GLT_HOME", str(ROOT / "runs" / "attention"))
    results = {}
    for name, pictures in PICTURES.items():
        recipe = load(name)
        folder = home() / protocols.sha256(recipe)[:12]
        archive = options.recordings / protocols.ARCHIVES[recipe.data.dataset]
        all_three = f"intervals {{{', '.join(map(str, recipe.motion.intervals))}}}"
        motions, encoder = _train(recipe, archive, folder / all_three)
        against = None
        if "distance" in pictures:
            single = with_changes(recipe, {"motion": {"intervals": (1,)}}, name)
            against = _train(single, archive, folder / ONE_INTERVAL)[1]
        shutil.rmtree(folder / "pictures", ignore_errors=True)
        attention.attention(motions, encoder, folder / "pictures", against=against)
        for picture in pictures:
            shutil.copyfile(folder / "pictures" / f"{picture}.png", ROOT / "docs" / f"attention-{name}-{picture}.png")
        results[name] = json.loads((folder / "pictures" / "attention.json").read_text(encoding="utf-8"))
    common = {"seed": 0, "commit": commit(), "hardware": hardware(torch.get_num_threads())}
    artifact.write_json(ROOT / "results" / "attention.json", {**common, **results})


def _train(recipe: Recipe, archive: Path, folder: Path) -> tuple[Path, Path]:
    """Make motions and encoder unless they exist, and return their folders; recipes of a data set share its clips."""
    clips, text, encoder = folder.parent / "clips", recipe.to_json(), folder / "encoder" / folder.name
    if not (folder / "motions" / artifact.MANIFEST).exists():
        if not (clips / artifact.MANIFEST).exists():
            data.ingest(str(archive), text, clips)
        data.disentangle(clips, text, folder / "motions")
    if not (encoder / artifact.MANIFEST).exists():
        training.pretrain(folder / "motions", text, encoder, accelerator="cpu")
    return folder / "motions", encoder


if __name__ == "__main__":
    main()
