"""The model against the paper's equations, written out a second time in tests/oracle.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from glt.layers import drop_path, dropout, spatial_mask
from glt.model import DIRECTIONS, DisplacementHeads, GLTransformer
from glt.motion.packed import BatchLayout, windows
from glt.recipe import ModelConfig

PERSONS, JOINTS = 2, 3
CPU = torch.device("cpu")
LENGTHS = (4, 1, 7, 5)


def config(**changes: object) -> ModelConfig:
    sizes = {"max_frames": 8, "head_dim": 3, "heads": 2, "depth": 2, "dropout": 0.0, "drop_path": 0.0}
    return ModelConfig.model_validate(sizes | changes)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter moved away from its start, so that none is zero or one by construction."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def encoder(persons: int = PERSONS, **changes: object) -> GLTransformer:
    torch.manual_seed(0)
    model = randomise(GLTransformer(config(**changes), persons, JOINTS))
    assert isinstance(model, GLTransformer)
    return model


def clips(lengths: tuple[int, ...] = LENGTHS, persons: int = PERSONS, absent: bool = True) -> tuple[Tensor, Tensor]:
    """Tokens [S, P, K, 3] and present [S, P]; the second person comes and goes, one frame shows nobody."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(sum(lengths), persons, JOINTS, 3, generator=generator)
    present = torch.ones(sum(lengths), persons, dtype=torch.bool)
    if absent:
        present[:3, -1] = False
        present[lengths[0] + lengths[1] + 1] = False
    return tokens * present[:, :, None, None], present


@pytest.mark.parametrize(("positional", "total"), [("per-block", 34_094_100), ("shared", 33_950_100)])
def test_parameter_count_of_nw_ucla(positional: str, total: int) -> None:
    """The authors' 34,095,060 less their unused token (960); a shared table spares three of 48,000."""
    sizes = ModelConfig(max_frames=50, head_dim=6, heads=8, depth=4, tables=positional)
    with torch.device("meta"):
        model, heads = GLTransformer(sizes, persons=1, joints=20), DisplacementHeads(960, 20, 3, 16)
    assert count(model.blocks[0]) == 3_690_240 + 3_689_280 + 9_408 + 3_936  # temporal, feed-forward, spatial, norms
    assert count(model.position) == 48_000 * (4 if positional == "per-block" else 1)
    assert count(model.embed_global) + count(model.embed_local) == 384
    assert count(model.head) == 1_848_960 + 2 * 960  # the digest counts the first LayerNorm apart
    assert count(heads.direction) == 1_556_820
    assert count(heads.magnitude) == 922_560
    assert count(model) + count(heads) == total


def test_parameter_count_of_ntu() -> None:
    """The authors' 214,372,050 less their unused token (2,400)."""
    with torch.device("meta"):
        model = GLTransformer(ModelConfig(tables="per-block"), persons=2, joints=25)
        heads = DisplacementHeads(2400, 50, 3, 16)
    assert count(model) + count(heads) == 214_369_650


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_order_and_company_of_clips_do_not_matter() -> None:
    model = encoder().double()
    tokens, present = clips()
    together = model(tokens.double(), present, LENGTHS).split(LENGTHS)
    order = [2, 0, 3, 1]
    parts, seen = tokens.double().split(LENGTHS), present.split(LENGTHS)
    lengths = [LENGTHS[n] for n in order]
    permuted = model(torch.cat([parts[n] for n in order]), torch.cat([seen[n] for n in order]), lengths).split(lengths)
    for place, number in enumerate(order):
        torch.testing.assert_close(permuted[place], together[number], rtol=1e-11, atol=1e-11)
        alone = model(parts[number], seen[number], [LENGTHS[number]])
        torch.testing.assert_close(alone, together[number], rtol=1e-11, atol=1e-11)


def test_clips_do_not_see_each_other() -> None:
    model = encoder()
    tokens, present = clips(absent=False)
    tokens.requires_grad_()
    model(tokens, present, LENGTHS)[: LENGTHS[0]].sum().backward()
    assert tokens.grad[: LENGTHS[0]].abs().sum() > 0
    assert tokens.grad[LENGTHS[0] :].abs().sum() == 0


def test_an_absent_person_is_not_attended() -> None:
    """In the spatial attention no present token hears of an absent one."""
    model = encoder()
    _, present = clips((4,), absent=False)
    present[:] = torch.tensor([True, False])
    block = model.blocks[0].spatial
    z = torch.randn(4, PERSONS * JOINTS, model.config.width)
    other = z.clone()
    other[:, JOINTS:] += 1.0  # the absent person's tokens
    mask = spatial_mask(present, JOINTS, model.config, torch.float32)
    torch.testing.assert_close(block(z, mask)[:, :JOINTS], block(other, mask)[:, :JOINTS])
    everyone = spatial_mask(torch.ones_like(present), JOINTS, model.config, torch.float32)
    assert not torch.allclose(block(z, everyone)[:, :JOINTS], block(other, everyone)[:, :JOINTS])


def test_a_frame_with_nobody_gives_numbers() -> None:
    model = encoder()
    tokens, present = clips((3, 2), absent=False)
    present[:] = False
    F = model(tokens * 0, present, (3, 2))
    F.sum().backward()
    assert torch.isfinite(F).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_gradients_repeat_bit_for_bit_with_several_threads() -> None:
    """Sums of single-precision numbers depend on their order; a resumed run needs the same order every time."""
    torch.manual_seed(0)
    model = GLTransformer(config(max_frames=40, head_dim=8, depth=1), PERSONS, JOINTS)
    lengths = (30, 40) * 8
    tokens, present = clips(lengths, absent=False)
    weight = torch.randn(sum(lengths), model.width)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = []
        for _ in range(5):
            model.zero_grad()
            (model(tokens, present, lengths) * weight).sum().backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    finally:
        torch.set_num_threads(threads)
    for again in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients[0], again, strict=True))


def test_layers_end_with_the_representation() -> None:
    model = encoder(depth=3)
    tokens, present = clips()
    layers = model.layers(tokens, present, LENGTHS)
    assert [tuple(layer.shape) for layer in layers] == [(sum(LENGTHS), model.width)] * 4
    torch.testing.assert_close(layers[-1], model(tokens, present, LENGTHS))
    torch.testing.assert_close(layers[-1], model.head(layers[-2]))


@pytest.mark.parametrize("switch", [{"dropout": 0.5}, {"drop_path": 0.9}], ids=str)
def test_dropout_is_for_training_only(switch: dict[str, float]) -> None:
    model = encoder(**switch)
    tokens, present = clips()
    model.eval()
    still = model(tokens, present, LENGTHS)
    torch.testing.assert_close(still, encoder()(tokens, present, LENGTHS))
    model.train()
    assert not torch.allclose(still, model(tokens, present, LENGTHS))


def test_stochastic_depth_leaves_out_whole_clips_and_keeps_the_mean() -> None:
    layout = BatchLayout.of([2] * 10_000, CPU)
    torch.manual_seed(0)
    scale = drop_path(torch.ones(20_000, 1), 0.5, layout, training=True).view(10_000, 2)
    assert set(scale.unique().tolist()) == {0.0, 2.0}
    assert (scale[:, 0] == scale[:, 1]).all()
    assert scale.mean() == pytest.approx(1.0, abs=0.03)


def test_displacement_heads_are_one_linear_classifier_a_token_and_interval() -> None:
    heads = DisplacementHeads(width=10, tokens=4, intervals=2, magnitude_classes=5)
    F = torch.randn(7, 10)
    direction, magnitude = heads(F)
    assert direction.shape == (7, 2, 4, DIRECTIONS)
    assert magnitude.shape == (7, 2, 4, 5)
    row = (1 * 4 + 2) * 5 + 3  # interval 1, token 2, class 3
    expected = F @ heads.magnitude.weight[row] + heads.magnitude.bias[row]
    torch.testing.assert_close(magnitude[:, 1, 2, 3], expected)


@pytest.mark.parametrize(
    ("shape", "lengths", "words"),
    [
        ((5, 1, JOINTS, 3), (5,), "do not fit the model"),
        ((5, PERSONS, JOINTS + 1, 3), (5,), "do not fit the model"),
        ((5, PERSONS, JOINTS, 3), (4,), "4 frames in clips"),
        ((9, PERSONS, JOINTS, 3), (9,), "longer than T_max = 8"),
    ],
)
def test_what_does_not_fit_is_rejected(shape: tuple[int, ...], lengths: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encoder()(torch.zeros(shape), torch.ones(shape[:2], dtype=torch.bool), lengths)


def test_positional_table_starts_from_waves_of_time_or_zeros() -> None:
    config = ModelConfig(max_frames=7, head_dim=1, heads=3, depth=1)
    table = GLTransformer(config, persons=1, joints=3).position[0].detach().reshape(7, 9).numpy()
    for time in range(7):
        for place in range(9):
            angle = time / 10_000 ** ((place - place % 2) / 9)
            wave = math.sin(angle) if place % 2 == 0 else math.cos(angle)
            assert table[time, place] == pytest.approx(0.3 * wave, abs=1e-5)
    zeros = config.model_copy(update={"positional_start": "zeros"})
    assert not GLTransformer(zeros, persons=1, joints=3).position[0].any()


def build(**changes: object) -> GLTransformer:
    torch.manual_seed(0)
    return GLTransformer(config(**changes), PERSONS, JOINTS)


def test_the_embedding_s_first_weights_have_a_gain() -> None:
    plain, strong = (build(embedding_gain=gain) for gain in (1.0, 12.0))
    for name, weight in plain.state_dict().items():
        factor = 12.0 if name in ("embed_global.weight", "embed_local.weight") else 1.0
        torch.testing.assert_close(strong.state_dict()[name], factor * weight)


def test_long_clips_attend_in_windows() -> None:
    """Parts of even length, each as if it were a clip of its own; T_max is never exceeded."""
    model = encoder(max_frames=5, longer="windows")
    tokens, present = clips((12, 3, 2))
    together = model(tokens, present, (12, 3, 2))
    torch.testing.assert_close(together, model(tokens, present, (4, 4, 4, 3, 2)))
    assert windows((12, 3, 5, 6, 11), 5) == [4, 4, 4, 3, 5, 3, 3, 3, 4, 4]


def test_attention_dropout_is_for_training_only() -> None:
    model = encoder(attention_dropout=0.5)
    tokens, present = clips()
    torch.testing.assert_close(model.eval()(tokens, present, LENGTHS), encoder()(tokens, present, LENGTHS))
    model.train()
    assert not torch.equal(model(tokens, present, LENGTHS), model(tokens, present, LENGTHS))


def test_dropout_drops_the_share_and_keeps_the_mean() -> None:
    x = torch.rand(1001, 333, requires_grad=True)
    torch.manual_seed(0)
    y = dropout(x, 0.1, training=True)
    kept = y != 0
    assert (~kept).float().mean() == pytest.approx(0.1, abs=0.002)
    assert (~kept).float().mean(0).max() < 0.15  # every column and row alike
    assert (~kept).float().mean(1).max() < 0.2
    torch.testing.assert_close(y[kept], x[kept] / 0.9)
    y.sum().backward()
    torch.testing.assert_close(x.grad, kept / 0.9)
    torch.manual_seed(0)
    assert torch.equal(dropout(x, 0.1, training=True), y)
    assert dropout(x, 0.1, training=False) is x
    assert dropout(x, 0.0, training=True) is x
