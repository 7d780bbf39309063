"""Our spatial attention against torch's fused attention: forward and backward, in turn.

    python -m benchmarks.spatial_attention

For the frames of a batch of NW-UCLA (20 tokens) and of NTU (50), 8 heads of 1, 2 and 6 dims, one thread and two. The
best of the rounds counts. Writes results/spatial-attention.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.hardware import ROOT, commit, hardware
from benchmarks.timing import time_in_turn
from glt import artifact
from glt.reporter import ConsoleReporter
from glt.small_attention import attention

HEADS = 8
FRAMES = {20: 4097, 50: 672}  # of a batch: NW-UCLA's 128 clips, NTU's 8


def main() -> None:
    """Measure, print a table, write the result."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    rows = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for tokens, frames in FRAMES.items():
            for width in (1, 2, 6):
                qkv = torch.randn(frames, tokens, 3 * HEADS * width)
                functions = {"torch": partial(both, fused, qkv), "ours": partial(both, ours, qkv)}
                task = f"{tokens} tokens, {width} dims per head, threads {threads}"
                times = time_in_turn(functions, given.rounds, ConsoleReporter(), task)
                seconds = {name: round(time.best, 4) for name, time in times.items()}
                rows.append({"threads": threads, "tokens": tokens, "width": width, **seconds})
    result = {"runs": rows, "heads": HEADS, "frames": FRAMES, "commit": commit(), "hardware": hardware(2)}
    artifact.write_json(ROOT / "results" / "spatial-attention.json", result)
    print("| threads | tokens | dims per head | torch, ms | ours, ms | ratio |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        a, b = 1e3 * row["torch"], 1e3 * row["ours"]
        print(f"| {row['threads']} | {row['tokens']} | {row['width']} | {a:.0f} | {b:.0f} | {a / b:.1f} |")


def both(attend: Callable[[Tensor], Tensor], qkv: Tensor) -> None:
    """Forward and backward."""
    torch.autograd.backward(attend(qkv.requires_grad_()).sum())
    qkv.grad = None


def ours(qkv: Tensor) -> Tensor:
    """`glt.small_attention`."""
    return attention(qkv, HEADS, None)


def fused(qkv: Tensor) -> Tensor:
    """torch's, with each head in one piece, which it needs to be quick."""
    q, k, v = qkv.view(*qkv.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


if __name__ == "__main__":
    main()
