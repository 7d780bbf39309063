"""Estimated cost of pretraining with a recipe on a GPU, from the FLOPs of its model.

    python -m docs.make.cost

Of the hours that it takes one GPU, the arithmetic is counted, the rest assumed: how long clips are, and that a GPU
reaches 40 % of its peak, where a processor reached 83 % of its own (make bench). No GPU was at hand.
"""

from __future__ import annotations

from glt.analysis.summary import Pretraining, training_flops
from glt.recipe import load

CLIPS = {  # in the training split (docs/checks.md), and frames, of which NTU's are assumed as in benchmarks/clips.py
    **{"ntu60-xsub": (40_091, 84), "ntu60-xview": (37_646, 84)},
    **{"ntu120-xsub": (63_026, 84), "ntu120-xset": (54_468, 84), "nw-ucla": (1_020, 32)},
}
PEAKS = (19.5, 312.0)  # TFLOPS of an A100: float32 outside tensor cores, and bfloat16
REACHED = 0.4
MACHINE = 0.169  # TFLOPS that a training step of the paper's size reached on 2 cores (results/speed.json)


def rows() -> list[tuple[str, list[str]]]:
    """A row a recipe: epochs, GFLOP a clip, PFLOP in all, hours on a GPU in float32 / bfloat16, days on 2 cores."""
    made = []
    for data, (clips, frames) in CLIPS.items():
        for name in (f"{data}-paper", data):
            recipe = load(name)
            flops = training_flops(Pretraining(recipe), frames)
            tera = flops * clips * recipe.pretrain.epochs / 1e12
            hours = [tera / (peak * REACHED) / 3600 for peak in PEAKS]
            cells = [f"{recipe.pretrain.epochs}", f"{clips:,}", f"{flops / 1e9:.3g}", f"{tera / 1e3:,.3g}"]
            made.append((f"`{name}`", [*cells, " / ".join(f"{x:.2g}" for x in hours), f"{tera / MACHINE / 86400:.2g}"]))
    return made


if __name__ == "__main__":
    for title, cells in rows():
        print(f"{title:24}", *(f"{cell:>12}" for cell in cells))
