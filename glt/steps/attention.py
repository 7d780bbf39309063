"""The attention of a trained encoder: Figures 4, 5, A, B and C of the paper. On request; part of no pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from glt import artifact
from glt.accelerator import device
from glt.analysis import attention as maps
from glt.analysis import attention_figures as figures
from glt.errors import GltError
from glt.model import GLTransformer
from glt.motion.disentangle import Motions
from glt.training.batches import evaluation_batches
from glt.training.encoder import load_encoder

BATCH = 4  # clips; the spatial maps of one of 300 frames and 50 tokens hold 24 MB


def attention(
    motions: Path,
    encoder: Path,
    out: Path,
    against: Path | None = None,
    clips: int = 300,
    frames: int = 30,
    accelerator: str = "auto",
) -> dict[str, float]:
    """Draw what an encoder attends to, averaged over test clips: the paper's Figures 4, 5, A, B and C, as PNG in `out`.

    attention.npz holds the averages, attention.json the attended frame distances.

    Args:
        motions: folder of motions; clips of its test split, evenly chosen, are attended to.
        encoder: folder of the encoder.
        out: where the figures go.
        against: folder of a second encoder, whose attended distances are drawn beside those of the first.
        clips: at most this many.
        frames: of the temporal maps; shorter clips are left out of them.
        accelerator: cpu, gpu or auto.

    Returns:
        The average attended frame distance of each block, over its heads.

    Raises:
        GltError: an encoder is not for these motions, no test clip, or none that is long enough.
    """
    artifact.check_replaceable(out, "attention")
    if clips < 1 or frames < 1:
        raise GltError(f"--clips {clips} --frames {frames}: give numbers above 0")
    data = Motions(motions)
    folders = {_name(encoder, against): encoder} | ({_name(against, encoder): against} if against else {})
    models = {name: _load(folder, data) for name, folder in folders.items()}
    clip_ids = data.clip_ids("test")
    chosen = clip_ids[np.unique(np.linspace(0, len(clip_ids) - 1, min(clips, len(clip_ids))).round().astype(int))]
    where = device(accelerator)
    averages = {}
    for name, model in models.items():
        batches = evaluation_batches(data, chosen, model.config, where, BATCH)
        averages[name] = maps.average_maps(model.to(where), batches, frames)
    first, model = next(iter(averages.values())), next(iter(models.values()))
    info = {"motions": data.digest, "encoders": {name: artifact.digest(folder) for name, folder in folders.items()}}
    with artifact.reserve(out), artifact.create(out, "attention", info) as folder:
        drawn = {
            "temporal": figures.temporal_maps(first.temporal.numpy()),
            "distance": figures.attended_distance({name: a.distance.numpy() for name, a in averages.items()}),
            "spatial": figures.spatial_maps(first.spatial.numpy(), model.persons),
        }
        longest = min(
            model.config.max_frames, int(data.index["length"].max())
        )  # later places of a table were never used
        positions = maps.indicated_positions(model.persons, model.joints, longest)
        tables = list(model.position) or [model.sinusoids]
        for block, table in enumerate(tables, 1):
            tiles = [maps.positional_similarity(table[:longest], *position).cpu().numpy() for position in positions]
            name = "positional" if len(tables) == 1 else f"positional-block{block}"
            drawn[name] = figures.positional_similarity(tiles, positions, model.persons)
        for name, figure in drawn.items():
            figure.savefig(folder / f"{name}.png", dpi=150)
        arrays = {
            f"{'against_' if number else ''}{field}": getattr(average, field).numpy()
            for number, average in enumerate(averages.values())
            for field in ("spatial", "temporal", "distance")
        }
        np.savez(folder / "attention.npz", allow_pickle=False, **arrays)
        artifact.write_json(
            folder / "attention.json",
            {
                "clips": first.clips,
                "temporal_clips": first.long_clips,
                "spatial_frames": first.whole_frames,
                "distance": {name: average.distance.tolist() for name, average in averages.items()},
            },
        )
    return {f"attended_distance/block_{number}": float(x) for number, x in enumerate(first.distance.mean(1), 1)}


def _name(folder: Path, other: Path | None) -> str:
    """A folder's name in a legend; its path where both are called the same."""
    return Path(folder).name if other is None or Path(folder).name != Path(other).name else str(folder)


def _load(folder: Path, data: Motions) -> GLTransformer:
    encoder = load_encoder(folder)
    if (encoder.persons, encoder.joints) != (data.persons, data.joints):
        raise GltError(
            f"{folder}: an encoder of {encoder.persons} x {encoder.joints} tokens, but {data.path} has "
            f"{data.persons} x {data.joints}; take the encoder that was trained on motions like these"
        )
    return encoder
