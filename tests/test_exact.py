"""The whole of pretraining against tests/oracle.py: targets, forward, loss and every gradient, for every switch.

And the comparison against itself: with any one equation changed it must fail.
"""

from __future__ import annotations

import importlib
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glt.motion import packed
from glt.motion.displacement import Bins
from glt.motion.packed import Packed
from glt.recipe import ModelConfig, PretrainConfig
from tests import oracle

ROOT = Path(__file__).parent.parent
LENGTHS = (4, 1, 6, 4, 2)
LONGEST = 6
INTERVALS = (1, 3)
GRID = 0.25  # coordinates are multiples of it, so that dead zones and edges are hit exactly
MODULES = ("glt.model", "glt.motion.displacement", "glt.training.mpdp")
SMALL, FUSED, LAYERS, PACKED = "glt.small_attention", "glt.fused_attention", "glt.layers", "glt.motion.packed"
HELPERS = {SMALL: "small_attention", FUSED: "fused_attention", LAYERS: "spatial_mask", PACKED: "BatchLayout"}


@dataclass(frozen=True)
class Case:
    """One setting of the switches, on clips of one and of T_max frames, of persons who come late, go, or never come."""

    persons: int = 2
    global_tokens: int = 1
    lengths: tuple[int, ...] = LENGTHS
    everyone: bool = False
    model: dict[str, Any] = field(default_factory=dict)
    edge: str = "zero"
    absent: str = "left-out"
    loss: dict[str, Any] = field(default_factory=dict)
    seed: int = 3
    comings: bool = False

    def batch(self) -> Packed:
        """Clips on the grid."""
        random = np.random.default_rng(self.seed)
        total = sum(self.lengths)
        tokens = random.integers(-3, 4, (total, self.persons, 3, 3)).astype(np.float32) * GRID
        present = np.ones((total, self.persons), bool)
        if self.comings:
            present = random.random(present.shape) < 0.7
        elif not self.everyone:
            first, second = self.lengths[:2]
            present[:2, -1] = False  # late
            present[first : first + second, -1] = False  # never
            present[first + second + 2, -1] = False  # gone for a moment
            present[-1] = False  # nobody
        tokens *= present[:, :, None, None]
        return Packed(torch.from_numpy(tokens), torch.from_numpy(present), self.lengths, self.global_tokens)

    def bins(self) -> Bins:
        """Two intervals, other edges for either kind of token."""
        zone = np.array([[0.0, 0.25], [0.5, 0.25]], np.float32)
        edges = np.array([[[0.25, 1.0], [0.5, 1.25]], [[0.5, 0.75], [0.25, 1.0]]], np.float32)
        return Bins(INTERVALS, zone, edges, self.edge, self.absent)

    def sizes(self) -> ModelConfig:
        """A small model without dropout."""
        sizes = {"max_frames": LONGEST, "head_dim": 2, "heads": 2, "depth": 2, "dropout": 0, "drop_path": 0}
        return ModelConfig.model_validate(sizes | self.model)

    def weights(self) -> PretrainConfig:
        """Four parts of the loss, each with a factor of its own."""
        return PretrainConfig(lambda_direction=0.7, lambda_magnitude=1.3, lambda_global=0.3, **self.loss)


CASES = {
    "two persons": Case(),
    "one person": Case(persons=1),
    "everyone present": Case(everyone=True),
    "equally long": Case(lengths=(6, 6, 6)),
    "one frame": Case(lengths=(1, 1), everyone=True),
    "one table a block": Case(model={"tables": "per-block"}),
    "positions added once": Case(model={"positional": "trainable"}),
    "fixed waves": Case(model={"positional": "sinusoidal"}),
    "no person-to-person attention": Case(model={"person_attention": False}),
    "absent persons attended": Case(model={"attend_absent": True}),
    "absent persons a class": Case(absent="own-class"),
    "absent persons a class, attended": Case(absent="own-class", model={"attend_absent": True}),
    "displacement from frame 0": Case(edge="first-frame"),
    "global weight on interval 1 only": Case(loss={"global_intervals": "first"}),
    "no global translation": Case(global_tokens=0),
}


@dataclass
class Code:
    """The three modules under test, or changed copies of them."""

    model: Any
    displacement: Any
    mpdp: Any


def code(module: str = "", old: str = "", new: str = "") -> Code:
    """The code as it is, or with one text in one module changed."""
    loaded = [load_changed(name, old, new) if name == module else importlib.import_module(name) for name in MODULES]
    if module in HELPERS:
        helper, loaded[0] = load_changed(module, old, new), load_changed(MODEL)
        name = HELPERS[module]
        setattr(loaded[0], name, getattr(helper, name, helper))
    if module in (MODEL, *HELPERS):
        loaded[2] = types.SimpleNamespace(**vars(loaded[2]))
        loaded[2].Pretrainer = type("Pretrainer", (loaded[2].Pretrainer,), {"__init__": _with_heads(loaded[0])})
    return Code(*loaded)


def load_changed(name: str, old: str = "", new: str = "") -> Any:
    """A copy of a module, with one text changed."""
    path = ROOT / (name.replace(".", "/") + ".py")
    text = path.read_text(encoding="utf-8")
    if old:
        assert text.count(old) == 1, f"{path.name} has {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    module = types.ModuleType(name)
    exec(compile(text, path, "exec"), module.__dict__)
    return module


def _with_heads(model: Any) -> Any:
    """`Pretrainer.__init__` with the classifiers of a changed copy of glt.model."""

    def initialise(self: Any, encoder: Any, bins: Bins) -> None:
        torch.nn.Module.__init__(self)
        self.encoder = encoder
        tokens = encoder.persons * encoder.joints
        self.heads = model.DisplacementHeads(encoder.width, tokens, len(bins.intervals), bins.classes)

    return initialise


def worst(case: Case, dtype: torch.dtype, code: Code) -> float:
    """The largest difference from the oracle, as a share of the scale: of loss, F, and every gradient; inf: targets."""
    torch.manual_seed(0)
    config, bins, batch, sizes = case.weights(), case.bins(), case.batch(), case.sizes()
    model = code.mpdp.Pretrainer(code.model.GLTransformer(sizes, case.persons, 3, case.global_tokens), bins)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    model = model.to(dtype)
    goal = code.displacement.targets(batch, bins)
    slow = {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}
    expected, F, classes = slow_loss(slow, case, batch, bins, sizes)
    for mine, theirs in zip((goal.direction, goal.magnitude), classes[:2], strict=True):
        if not np.array_equal(mine.numpy()[classes[2]], theirs[classes[2]]):
            return float("inf")
    if not np.array_equal(goal.valid[..., None].expand_as(goal.direction).numpy(), classes[2]):
        return float("inf")
    tokens = batch.tokens.to(dtype)
    value = code.mpdp.loss(model(tokens, batch.present, batch.lengths), goal, config)
    differences = [share(value, expected), share(model.encoder(tokens, batch.present, batch.lengths), F)]
    value.backward()
    expected.backward()
    scale = max(float(reference.grad.abs().max()) for reference in slow.values() if reference.grad is not None)
    for name, parameter in model.named_parameters():
        zero = torch.zeros_like(slow[name])
        mine, reference = (value.grad if value.grad is not None else zero for value in (parameter, slow[name]))
        differences.append(float((mine.double() - reference).abs().max()) / scale)
    return max(differences)


def share(mine: Tensor, theirs: Tensor) -> float:
    return float((mine.detach().double() - theirs.detach()).abs().max() / theirs.detach().abs().max())


def slow_loss(
    weights: dict[str, Tensor], case: Case, batch: Packed, bins: Bins, sizes: ModelConfig
) -> tuple[Tensor, Tensor, tuple[np.ndarray, ...]]:
    """Loss, F and targets by the oracle: padded to T_max, dense, in loops."""
    encoder = {name.removeprefix("encoder."): value for name, value in weights.items()}
    switches = oracle.Switches(
        positional=sizes.positional,
        person_attention=sizes.person_attention,
        attend_absent=sizes.attend_absent,
        global_tokens=case.global_tokens,
    )
    tokens = oracle.pad(batch.tokens.double(), batch.lengths, LONGEST, oracle.PAD)
    present = oracle.pad(batch.present, batch.lengths, LONGEST, True)
    F = torch.cat(oracle.representation(encoder, switches, tokens, present, batch.lengths))
    shape = (len(F), len(INTERVALS), case.persons, 3, -1)
    logits = [
        (F @ weights[f"heads.{n}.weight"].T + weights[f"heads.{n}.bias"]).reshape(shape)
        for n in ("direction", "magnitude")
    ]
    parts = [
        oracle.classes(
            t.numpy(), p.numpy(), INTERVALS, bins.dead_zone, bins.edges, case.global_tokens, case.edge, case.absent
        )
        for t, p in zip(batch.tokens.split(batch.lengths), batch.present.split(batch.lengths), strict=True)
    ]
    direction, magnitude, valid = (np.concatenate(part) for part in zip(*parts, strict=True))
    config = case.weights()
    loss = oracle.mpdp_loss(
        (logits[0], logits[1]),
        (direction, magnitude),
        valid,
        (config.lambda_direction, config.lambda_magnitude),
        config.lambda_global,
        case.global_tokens,
        config.global_intervals == "first",
    )
    return loss, F, (direction, magnitude, valid)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("as_on_a_gpu")
def test_what_a_gpu_computes_equals_the_slow_way_too(name: str) -> None:
    assert worst(CASES[name], torch.float64, code()) < 1e-10
    assert worst(CASES[name], torch.float32, code()) < 1e-5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("as_on_a_gpu")
def test_random_clips_on_a_gpu_too(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In buckets of two lengths each, with heads as wide as they are and narrower than a kernel takes."""
    for name, value in (("ALIGNED", 2), ("BUCKETS", 2)):
        monkeypatch.setattr(packed, name, value)
    random = np.random.default_rng(seed)
    lengths = [1, LONGEST, *random.integers(1, LONGEST + 1, size=int(random.integers(1, 6))).tolist()]
    sizes: dict[str, Any] = {"head_dim": int(random.integers(1, 5))}
    case = Case(1 + seed % 2, lengths=tuple(random.permutation(lengths).tolist()), seed=seed, model=sizes, comings=True)
    assert worst(case, torch.float64, code()) < 1e-10


@pytest.mark.parametrize("name", CASES)
def test_everything_equals_the_slow_way(name: str) -> None:
    """To 1e-10 in double precision, to 1e-5 in single; targets exactly."""
    assert worst(CASES[name], torch.float64, code()) < 1e-10
    assert worst(CASES[name], torch.float32, code()) < 1e-5


@pytest.mark.parametrize("seed", range(6))
def test_random_clips_too(seed: int) -> None:
    """Of random lengths, among them one frame and T_max; persons come and go at random."""
    random = np.random.default_rng(seed)
    lengths = [1, LONGEST, *random.integers(1, LONGEST + 1, size=int(random.integers(1, 4))).tolist()]
    case = Case(persons=1 + seed % 2, lengths=tuple(random.permutation(lengths).tolist()), seed=seed, comings=True)
    assert worst(case, torch.float64, code()) < 1e-10
    assert worst(case, torch.float32, code()) < 1e-5


MODEL, TARGETS, LOSS = MODULES
CHANGES = [
    ("Eq. 1, W_g", MODEL, "self.embed_global(tokens", "self.embed_local(tokens"),
    ("Eq. 3, order", MODEL, "torch.cat([self.embed_global(tokens[:, :, :1]), z], dim=2)",
     "torch.cat([z, self.embed_global(tokens[:, :, :1])], dim=2)"),
    ("Eq. 4, M", MODEL, "            z = z + position\n        z = z + self._drop",
     "            pass\n        z = z + self._drop"),
    ("Eq. 4, residual", MODEL, "z = z + self._drop(self.spatial", "z = self._drop(self.spatial"),
    ("Eq. 4, LN", MODEL, "self.spatial(self.norm_spatial(z), mask)", "self.spatial(z, mask)"),
    ("Eq. 5, spatial", SMALL, "q, k, v = rows\n        out", "v, k, q = rows\n        out"),
    ("Eq. 5, temporal", MODEL, "q, k, v = qkv", "q, v, k = qkv"),
    ("Eq. 6, scale, spatial", SMALL, "rows[0] *= rows.shape[3] ** -0.5", "rows[0] *= 1.0"),
    ("Eq. 6, scale, temporal", MODEL, "attn_mask=mask,", "attn_mask=mask, scale=1.0,"),
    ("Eq. 6, absent persons", SMALL, "if mask is not None:", "if False:"),
    ("Eq. 6, mask of absent persons", LAYERS, "~attended, dtype", "~attended & False, dtype"),
    ("Eq. 6, gradient", SMALL, "ds -= _sets(spread[part])", "pass"),
    ("Eq. 7", MODEL, "= config.heads, config.dropout, config.a", "= 1, config.dropout, config.a"),
    ("Eq. 8", MODEL, "self.out(self.attend(self.qkv(z), mask))",
     "self.attend(self.qkv(z), mask)"),
    ("Eq. 9, M", MODEL, "            z = z + position\n        s = z", "            pass\n        s = z"),
    ("Eq. 9, residual", MODEL, "s = s + self._drop(self.temporal", "s = self._drop(self.temporal"),
    ("Eq. 9, LN", MODEL, "self.temporal(self.norm_temporal(s), layout)", "self.temporal(s, layout)"),
    ("Eq. 9, clips apart", PACKED, "for length, clips in sorted(Counter(lengths).items()))",
     "for length, clips in [(sum(lengths), 1)])"),
    ("Eq. 9, order of clips", MODEL, "[layout.unsort(output) for", "[output for"),
    ("Eq. 9, sorted lengths", PACKED, "frame_indices(sorted(lengths), device)", "frame_indices(lengths, device)"),
    ("Eq. 10, residual", MODEL, "s = s + self._drop(self.feed", "s = self._drop(self.feed"),
    ("Eq. 10, LN", MODEL, "self.feed(self.norm_feed(s))", "self.feed(s)"),
    ("Eq. 10, GELU", MODEL, "F.gelu(self.up(s))", "F.relu(self.up(s))"),
    ("Eq. 11", MODEL, "            nn.GELU(),\n            nn.LayerNorm(self.width),\n        )",
     "            nn.ReLU(),\n            nn.LayerNorm(self.width),\n        )"),
    ("Eq. 12", MODEL, "self.direction(representation)", "self.direction(representation.relu())"),
    ("Eq. 13, now less earlier", TARGETS,
     "torch.sub(tokens[..., interval:], tokens[..., :-interval], out=",
     "torch.sub(tokens[..., :-interval], tokens[..., interval:], out="),
    ("Eq. 13, axes", TARGETS, "sign[:, 0] + 3 * sign[:, 1]", "3 * sign[:, 0] + sign[:, 1]"),
    ("Eq. 13, no movement", TARGETS, "(moved > zone)", "(moved >= zone)"),
    ("Eq. 14, norm", TARGETS, ".sum(1).sqrt_()", ".sum(1)"),
    ("Eq. 14, edges", TARGETS, "distance >= bound", "distance > bound"),
    ("Eq. 14, first frames", TARGETS, "result *= (time >= interval).to(result.dtype)", "pass"),
    ("Eq. 14, both frames", TARGETS, "[batch.present & batch.present[_earlier(time, n, bins.edge)]", "[batch.present"),
    ("Eq. 15, lambda", LOSS, "result + factor * part", "result + part"),
    ("Eq. 15, global", LOSS, "translation * (config.lambda_global / divisor[1])", "translation * (1 / divisor[1])"),
    ("Eq. 15, means", LOSS, "local / divisor[0] +", "local / divisor[1] +"),
    ("Eq. 15, gradient", LOSS,
     "classes[..., None], -weight[..., None])", "classes[..., None], -2 * weight[..., None])"),
]  # fmt: skip


GPU_CHANGES = [
    ("scale", FUSED, "scale=width**-0.5", "scale=None"),
    ("queries and keys", FUSED, "q, k, v = part", "v, k, q = part"),
    ("mask of absent persons", FUSED, "attn_mask=hidden", "attn_mask=None"),
    ("padded keys", FUSED, "mask = None if bias is None else", "mask = None if True else"),
    ("padded queries' gradient", FUSED, "rows.masked_fill_(", "rows.masked_fill("),
    ("place of the zeros", FUSED, "weight.view(3 * heads, width, -1), (0, 0, 0, extra)",
     "weight.view(3 * heads, width, -1), (0, 0, extra, 0)"),
    ("bias", FUSED, "return F.linear(a, weight, linear.bias)", "return F.linear(a, weight)"),
    ("rows of a clip", PACKED, "starts(actual)[clips][clip] + np.where(real, time, 0)",
     "starts(actual)[clip] + np.where(real, time, 0)"),
    ("clips apart", PACKED, "real = time < actual[clips][clip]", "real = time < actual[clips][clip] + 1"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "old", "new"), [c[1:] for c in GPU_CHANGES], ids=[c[0] for c in GPU_CHANGES])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_change_of_what_a_gpu_computes_is_noticed(module: str, old: str, new: str) -> None:
    try:
        difference = worst(Case(lengths=(4, 1, 6, 3, 2)), torch.float64, code(module, old, new))
    except (IndexError, RuntimeError):
        return
    assert difference > 1e-4


@pytest.mark.parametrize(("module", "old", "new"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_a_changed_equation_is_noticed(module: str, old: str, new: str) -> None:
    assert worst(Case(), torch.float64, code(module, old, new)) > 1e-4
