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
ONE = "intervals {1}"


def main() -> None:
    """Train what is not there, draw, and keep the attended distances."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("recordings", type=Path)
    given = arguments.parse_args()
    os.environ.setdefault("GLT_HOME", str(ROOT / "runs" / "attention"))
    found = {}
    for name, pictures in PICTURES.items():
        recipe = load(name)
        place = home() / protocols.sha256(recipe)[:12]
        archive = given.recordings / protocols.ARCHIVES[recipe.data.dataset]
        all_three = f"intervals {{{', '.join(map(str, recipe.motion.intervals))}}}"
        motions, encoder = _trained(recipe, archive, place / all_three)
        against = None
        if "distance" in pictures:
            one = with_changes(recipe, {"motion": {"intervals": (1,)}}, name)
            against = _trained(one, archive, place / ONE)[1]
        shutil.rmtree(place / "pictures", ignore_errors=True)
        attention.attention(motions, encoder, place / "pictures", against=against)
        for picture in pictures:
            shutil.copyfile(place / "pictures" / f"{picture}.png", ROOT / "docs" / f"attention-{name}-{picture}.png")
        found[name] = json.loads((place / "pictures" / "attention.json").read_text(encoding="utf-8"))
    made = {"seed": 0, "commit": commit(), "hardware": hardware(torch.get_num_threads())}
    artifact.write_json(ROOT / "results" / "attention.json", {**made, **found})


def _trained(recipe: Recipe, archive: Path, place: Path) -> tuple[Path, Path]:
    """The folders of motions and encoder, made if they are not there; the clips are one for all of a data set."""
    clips, text, encoder = place.parent / "clips", recipe.to_json(), place / "encoder" / place.name
    if not (place / "motions" / artifact.MANIFEST).exists():
        if not (clips / artifact.MANIFEST).exists():
            data.ingest(str(archive), text, clips)
        data.disentangle(clips, text, place / "motions")
    if not (encoder / artifact.MANIFEST).exists():
        training.pretrain(place / "motions", text, encoder, accelerator="cpu")
    return place / "motions", encoder


if __name__ == "__main__":
    main()
