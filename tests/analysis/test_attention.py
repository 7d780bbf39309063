"""The maps against the model's own output and against Eq. 5-7 written as a loop; the averages against plain loops."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from glt.analysis.attention import (
    Maps,
    attended_distance,
    attention_maps,
    average_maps,
    indicated_positions,
    positional_similarity,
)
from glt.errors import GltError
from glt.model import GLTransformer
from glt.motion.packed import Packed
from glt.recipe import ModelConfig

PERSONS, JOINTS, HEADS, DEPTH = 2, 3, 2, 2
TOKENS = PERSONS * JOINTS
UNEVEN, EQUAL = (1, 4, 5, 7), (6, 6, 6)  # ascending, as the model sorts them


def encoder(persons: int = PERSONS, **changes: object) -> GLTransformer:
    sizes = {"max_frames": 8, "head_dim": 3, "heads": HEADS, "depth": DEPTH, "dropout": 0.0, "drop_path": 0.0}
    torch.manual_seed(0)
    model = GLTransformer(ModelConfig.model_validate(sizes | changes), persons, JOINTS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return model


def batch(lengths: tuple[int, ...] = UNEVEN, persons: int = PERSONS, absent: bool = True, seed: int = 1) -> Packed:
    """The last person comes and goes; one frame shows nobody."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.ones(sum(lengths), persons, dtype=torch.bool)
    if absent:
        present[:3, -1] = False
        present[lengths[0] + 1] = False
    tokens = torch.randn(sum(lengths), persons, JOINTS, 3, generator=generator)
    return Packed(tokens * present[:, :, None, None], present, lengths)


CASES = pytest.mark.parametrize(
    ("persons", "lengths", "absent"),
    [(2, UNEVEN, True), (2, UNEVEN, False), (2, EQUAL, True), (1, UNEVEN, False)],
    ids=["absent", "all-present", "equal-lengths", "one-person"],
)


@contextmanager
def capture_activations(model: GLTransformer) -> Iterator[dict[tuple[str, int], dict[str, Tensor]]]:
    """What goes into each attention module and what it hands its output layer, (kind, block) -> `in` and `mixed`."""
    seen: dict[tuple[str, int], dict[str, Tensor]] = {}
    handles = []
    for number, block in enumerate(model.blocks):
        for kind in ("spatial", "temporal"):
            place = seen.setdefault((kind, number), {})
            module = getattr(block, kind)
            for name, layer in (("in", module), ("mixed", module.out)):

                def keep(_: nn.Module, inputs: tuple[Tensor, ...], place=place, name=name) -> None:
                    place[name] = inputs[0].detach()

                handles.append(layer.register_forward_pre_hook(keep))
    yield seen
    for handle in handles:
        handle.remove()


def run(model: GLTransformer, clips: Packed) -> Tensor:
    result: Tensor = model(clips.tokens, clips.present, clips.lengths)
    return result


@CASES
def test_rows_sum_to_one_over_what_may_be_attended(persons: int, lengths: tuple[int, ...], absent: bool) -> None:
    clips = batch(lengths, persons, absent)
    maps = attention_maps(encoder(persons), clips)
    tokens = persons * JOINTS
    assert maps.spatial.shape == (DEPTH, sum(lengths), HEADS, tokens, tokens)
    assert [clip.shape for clip in maps.temporal] == [(DEPTH, HEADS, length, length) for length in lengths]
    for rows in (maps.spatial.sum(-1), *(clip.sum(-1) for clip in maps.temporal)):
        torch.testing.assert_close(rows, torch.ones_like(rows))
    for frame, present in enumerate(clips.present):
        if present.any():
            assert not maps.spatial[:, frame, :, :, ~present.repeat_interleave(JOINTS)].any()
        else:
            assert (maps.spatial[:, frame] > 0).all()


@CASES
def test_maps_times_values_are_what_the_modules_compute(persons: int, lengths: tuple[int, ...], absent: bool) -> None:
    model, clips = encoder(persons), batch(lengths, persons, absent)
    with capture_activations(model) as seen:
        maps = attention_maps(model, clips)
    for number, block in enumerate(model.blocks):
        z, s = seen["spatial", number]["in"], seen["temporal", number]["in"]
        v = block.spatial.qkv(z).detach().chunk(3, -1)[2].unflatten(-1, (HEADS, -1))  # S, J, h, d
        mixed = torch.einsum("shqk,skhd->sqhd", maps.spatial[number], v).flatten(-2)
        torch.testing.assert_close(mixed, seen["spatial", number]["mixed"].view_as(mixed), rtol=1e-5, atol=1e-5)
        values = block.temporal.qkv(s).detach().chunk(3, -1)[2].unflatten(-1, (HEADS, -1)).split(lengths)  # T, h, d
        parts = [torch.einsum("hqk,khd->qhd", a[number], v) for a, v in zip(maps.temporal, values, strict=True)]
        mixed, packed = torch.cat(parts).flatten(-2), seen["temporal", number]["mixed"]
        torch.testing.assert_close(mixed, packed, rtol=1e-5, atol=1e-5)


def equation(x: Tensor, qkv: nn.Linear, head: int, shown: list[bool]) -> Tensor:
    """Eq. 5-7 for one head and x [n, W], a number at a time."""
    weight, bias, (n, width) = qkv.weight.detach(), qkv.bias.detach(), x.shape
    d = width // HEADS
    rows = [slice(part * width + head * d, part * width + (head + 1) * d) for part in range(2)]
    queries, keys = ([weight[r] @ x[i] + bias[r] for i in range(n)] for r in rows)
    result = torch.zeros(n, n, dtype=x.dtype)
    for i in range(n):
        scores = [math.exp(float(queries[i] @ keys[j]) / math.sqrt(d)) if shown[j] else 0.0 for j in range(n)]
        for j in range(n):
            result[i, j] = scores[j] / sum(scores)
    return result


def test_maps_are_the_equations() -> None:
    model, clips = encoder().double(), batch()
    clips = Packed(clips.tokens.double(), clips.present, clips.lengths)
    with capture_activations(model) as seen:
        maps = attention_maps(model, clips)
    starts = [sum(UNEVEN[:number]) for number in range(len(UNEVEN))]
    for number, block in enumerate(model.blocks):
        z, s = seen["spatial", number]["in"], seen["temporal", number]["in"]
        for head in range(HEADS):
            for frame, present in enumerate(clips.present):
                seen_persons = present if present.any() else torch.ones_like(present)
                shown = seen_persons.repeat_interleave(JOINTS).tolist()
                expected = equation(z[frame], block.spatial.qkv, head, shown)
                torch.testing.assert_close(maps.spatial[number, frame, head], expected, rtol=1e-9, atol=1e-12)
            for clip, start, length in zip(maps.temporal, starts, UNEVEN, strict=True):
                expected = equation(s[start : start + length], block.temporal.qkv, head, [True] * length)
                torch.testing.assert_close(clip[number, head], expected, rtol=1e-9, atol=1e-12)


def test_maps_come_in_the_order_of_the_clips() -> None:
    model, clips = encoder(), batch()
    order = [2, 0, 3, 1]
    tokens, present = clips.tokens.split(UNEVEN), clips.present.split(UNEVEN)
    lengths = tuple(UNEVEN[n] for n in order)
    mixed = Packed(torch.cat([tokens[n] for n in order]), torch.cat([present[n] for n in order]), lengths)
    plain, other = attention_maps(model, clips), attention_maps(model, mixed)
    parts, expected = other.spatial.split(lengths, dim=1), plain.spatial.split(UNEVEN, dim=1)
    for place, number in enumerate(order):
        torch.testing.assert_close(other.temporal[place], plain.temporal[number], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(parts[place], expected[number], rtol=1e-4, atol=1e-6)


def test_training_does_not_notice() -> None:
    """Bit for bit the same output, gradients and random numbers, whether maps are taken in between or not."""
    model, clips = encoder(dropout=0.3, drop_path=0.3), batch()
    model.blocks[0].eval()  # a mode of its own
    other = copy.deepcopy(model)
    results = []
    for watched in (True, False):
        chosen = model if watched else other
        torch.manual_seed(3)
        first = run(chosen, clips)
        if watched:
            attention_maps(chosen, clips)
            average_maps(chosen, [clips], frames=3)
        second = run(chosen, clips)
        (first + second).square().sum().backward()
        results.append((first, second, [parameter.grad for parameter in chosen.parameters()]))
    assert not any(module._forward_hooks for module in model.modules())
    assert [m.training for m in model.modules()] == [m.training for m in other.modules()]
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert all(torch.equal(a, b) for a, b in zip(results[0][2], results[1][2], strict=True))


def test_output_is_the_same_while_hooks_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clips = encoder().eval(), batch()
    plain, watched = run(model, clips), []
    forward = GLTransformer.forward
    monkeypatch.setattr(GLTransformer, "forward", lambda *given: watched.append(forward(*given)))
    attention_maps(model, clips)
    assert torch.equal(plain, watched[0])
    assert not watched[0].requires_grad


def test_hooks_are_gone_after_an_error() -> None:
    model, clips = encoder(), batch()
    with pytest.raises(ValueError, match="do not fit"):
        attention_maps(model, Packed(clips.tokens, clips.present, (3,)))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


def test_averages_are_those_of_a_plain_loop() -> None:
    model = encoder()
    batches = [batch((4, 1, 7, 5)), batch((8, 3), seed=2), batch((6, 6, 6), absent=False, seed=3)]
    frames = 5
    averages = average_maps(model, batches, frames)
    spatial, temporal, distances = [], [], []
    for clips in batches:
        maps: Maps = attention_maps(model, clips)
        spatial += [maps.spatial[:, s].double() for s in range(len(clips.tokens)) if bool(clips.present[s].all())]
        temporal += [clip[:, :, :frames, :frames].double() for clip in maps.temporal if clip.shape[-1] >= frames]
        for clip in maps.temporal:
            total = torch.zeros(DEPTH, HEADS, dtype=torch.float64)
            for q in range(clip.shape[-1]):
                for k in range(clip.shape[-1]):
                    total += clip[:, :, q, k].double() * abs(q - k)
            distances.append(total / clip.shape[-1])
    assert (
        (averages.clips, averages.long_clips, averages.whole_frames) == (9, len(temporal), len(spatial)) == (9, 6, 38)
    )
    for got, parts in ((averages.spatial, spatial), (averages.temporal, temporal), (averages.distance, distances)):
        torch.testing.assert_close(got, torch.stack(parts).mean(0), rtol=1e-5, atol=1e-7)
    assert (averages.temporal.sum(-1) < 1).all()  # rows are cut, not renormalised


def test_averages_do_not_depend_on_the_batches() -> None:
    model, clips = encoder(), batch(absent=False)
    parts = clips.tokens.split(UNEVEN)
    alone = [Packed(part, torch.ones(len(part), PERSONS, dtype=torch.bool), (len(part),)) for part in parts]
    together, apart = average_maps(model, [clips], 4), average_maps(model, alone, 4)
    for field in ("spatial", "temporal", "distance"):
        torch.testing.assert_close(getattr(together, field), getattr(apart, field), rtol=1e-5, atol=1e-7)


def test_where_nobody_is_joined_by_another_the_spatial_average_is_zero() -> None:
    clips = batch(EQUAL)
    clips.present[:, 1] = False
    averages = average_maps(encoder(), [clips], 4)
    assert averages.whole_frames == 0
    assert not averages.spatial.any()


def test_too_short_clips_are_reported() -> None:
    with pytest.raises(GltError, match=r"none of the 4 clips has 30 frames; take more clips, or a smaller --frames"):
        average_maps(encoder(), [batch()])


def test_attended_distance_of_a_hand_made_map() -> None:
    looks_at_itself, looks_back = torch.eye(4), torch.zeros(4, 4)
    looks_back[:, 0] = 1  # 0, 1, 2, 3 frames away
    everywhere = torch.full((4, 4), 0.25)  # 1.5, 1, 1, 1.5
    got = attended_distance(torch.stack([looks_at_itself, looks_back, everywhere])[None])
    torch.testing.assert_close(got, torch.tensor([[0.0, 1.5, 1.25]]))


def test_positional_similarity() -> None:
    table = torch.randn(5, 4, 6)
    table[3, 2] = -2 * table[1, 1]
    table[4, 0] = 0
    got = positional_similarity(nn.Parameter(table), frame=1, token=1)
    assert got.shape == (5, 4)
    assert not got.requires_grad
    assert got[1, 1] == pytest.approx(1)
    assert got[3, 2] == pytest.approx(-1)
    assert got[4, 0] == 0
    a, b = table[1, 1], table[2, 3]
    assert float(got[2, 3]) == pytest.approx(float(a @ b / (a.norm() * b.norm())), abs=1e-6)


def test_indicated_positions() -> None:
    assert indicated_positions(persons=2, joints=25, frames=300) == [
        (frame, token) for token in (0, 12, 25, 37) for frame in (50, 150, 249)
    ]
    assert indicated_positions(persons=1, joints=1, frames=1) == [(0, 0)]
