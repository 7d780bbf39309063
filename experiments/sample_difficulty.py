"""Difficulty of the sample set: the probe on the pretrained encoder against baselines that learn no representation.

    make difficulty

For each seed: the linear probe of recipe `sample` on the pretrained and on the untrained encoder. Beside them, without
a seed, logistic regression (its strength chosen on the same validation folds) on raw positions and displacements of
every clip resampled to one length, and on mean, maximum and deviation over a clip of positions and displacements: what
a person who knows the task would try by hand. Writes results/sample-difficulty.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from benchmarks.hardware import ROOT, commit, hardware
from experiments import by_hand
from glt import artifact, recipe
from glt.data import sample
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.lifecycle.dvc_hash import content_md5
from glt.motion.disentangle import Motions, write_motions
from glt.reporter import ConsoleReporter, Silent
from glt.training.checkpoint import Checkpoint
from glt.training.pretrain import train_encoder
from glt.training.probe import fit_probe

NAMES = {"pretrained": "probe/top1", "untrained": "probe/untrained_top1"}
COLUMNS = (*NAMES, "raw", "pooled")


def main() -> None:
    """Measure, print a table, write the result."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--recipe", default="sample")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--out", type=Path, default=ROOT / "results" / "sample-difficulty.json")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    base = recipe.load(given.recipe)
    with tempfile.TemporaryDirectory() as folder:
        archive, clips, motions = (Path(folder) / name for name in (sample.ARCHIVE, "clips", "motions"))
        started = time.perf_counter()
        sample.write_sample(archive)
        seconds = {"generate": time.perf_counter() - started}
        version = content_md5(archive)
        ingest(archive, base, clips, {}, Silent(), Path(folder) / "segments")
        write_motions(ClipStore(clips), base, motions, {}, Silent())
        data = Motions(motions)
        floors = {
            "raw": by_hand.scores(data, by_hand.raw_positions(base.model.max_frames))["top1"],
            "pooled": by_hand.scores(data, by_hand.pooled_statistics)["top1"],
        }
        rows = []
        for seed in given.seeds:
            chosen = base.model_copy(update={"seed": seed})
            started = time.perf_counter()
            encoder, _ = train_encoder(data, chosen, torch.device("cpu"), ConsoleReporter(), Checkpoint(None))
            seconds[f"pretrain/{seed}"] = time.perf_counter() - started
            metrics = fit_probe(encoder, data, chosen, torch.device("cpu"), Silent()).metrics
            rows.append({"seed": seed, **floors, **{name: metrics[key] for name, key in NAMES.items()}})
            print(
                " ".join(f"{key} {value:.3f}" if key != "seed" else f"seed {value}:" for key, value in rows[-1].items())
            )
    result = {
        "seeds": rows,
        "mean": {name: float(np.mean([row[name] for row in rows])) for name in COLUMNS},
        "recipe": base.model_dump(mode="json"),
        "data_version": version,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "commit": commit(),
        "hardware": hardware(given.threads),
    }
    artifact.write_json(given.out, result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Markdown: a row a seed and the mean, in per cent."""
    lines = [f"| seed | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for row in (*result["seeds"], {"seed": "mean", **result["mean"]}):
        cells = " | ".join(f"{100 * row[name]:.1f}" for name in COLUMNS)
        lines.append(f"| {row['seed']} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    warnings.simplefilter("ignore", ConvergenceWarning)
    main()
