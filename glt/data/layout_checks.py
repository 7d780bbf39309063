"""Checks of a set of clips against its layout: vertical axis, handedness, unit, and order of the joints.

Each finds a mistake that all clips share, or many, and names the field of `skeleton.yaml` that corrects it. One clip
proves nothing, since people differ; fewer than three clips are not judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glt.data.clips import ClipStore
from glt.data.coordinates import AXES, METRES, Coordinates
from glt.data.findings import Finding
from glt.data.pose_sample import FEET, HEADS, Bools, Floats, PoseSample, draw

_LEAST = 3  # clips
_LEAST_BENT = 10  # clips in which knees and elbows are judged; they may bend either way in a few
_MANY, _NEARLY_ALL = 0.5, 0.75  # shares of the clips
_SOME = 0.1  # share of the clips that deviate, above which there is a warning
_TILT = 0.5  # least upward share of the vector from feet to head of a person who stands or sits
_BACKWARDS = -0.5  # of the net forward share, from -1 to 1
_SIZES = {"m": (0.5, 3.0), "image height": (0.0, 1.5)}  # of a whole person
_ADULT, _SMALL = 0.85, 0.3  # metres: least extent of an adult, of an upper body
_SHORTER = 0.01  # share of the length of all bones that an exchange of two joints may save without an alarm
_LOOSER = -0.05  # share of the variation of all bones that the same exchange must save; below zero it may add some
_FEW, _SHORTER_IN_FEW = 20, 0.05  # fewer clips may show unusual poses only; their `_SHORTER`
_JOINTS = 100  # of a layout; larger ones are meshes, whose points have no order to judge
_DIRECTIONS = ("x", "y", "z", "-x", "-y", "-z")


@dataclass(frozen=True)
class _Files:
    """The files that the clips were read from.

    Attributes:
        coordinates: of all of them; None if they differ.
        are_tables: they have a `skeleton.yaml`.
    """

    coordinates: Coordinates | None
    are_tables: bool

    @staticmethod
    def of(store: ClipStore) -> _Files:
        """The files of a store; an older version stored no coordinates, and converted none."""
        known = store.coordinates or [Coordinates()]
        return _Files(known[0] if len(known) == 1 else None, store.info.get("format") == "table")

    def remedy(self, field: str, value: str) -> str:
        """The change of a field of `skeleton.yaml` that corrects the recordings; to remove it, if no value is given."""
        if self.coordinates is None:
            return f"correct `{field}` in the skeleton.yaml of these clips"
        if not self.are_tables:
            return f"give the recordings as tables with `{field}: {value}` in skeleton.yaml (docs/formats.md)"
        return f"set `{field}: {value}` in skeleton.yaml" if value else f"remove `{field}` from skeleton.yaml"


def findings(store: ClipStore) -> list[Finding]:
    """Findings of the checks `upright`, `mirror`, `unit`, `plane` and `joints`: alarms, and warnings about some clips.

    A layout without the joints that a check looks at is not judged by it.
    """
    if len(store.index) < _LEAST:
        return []
    sample, files = draw(store), _Files.of(store)
    order = _joints(sample)
    others = (_unit(sample, files), _plane(sample))
    # Axes cannot be judged while joints are in another order.
    axes = (_upright(sample, files), _mirror(sample, files)) if order is None else ()
    return [finding for finding in (order, *axes, *others, _names(sample)) if finding is not None]


def _names(sample: PoseSample) -> Finding | None:
    """A note if joints' names do not tell heads and feet apart, so that the axes are not judged."""
    if sample.heads_over_feet() is not None:
        return None
    text = (
        f"axes and unit are hardly judged: among the joints that are shown none is named {', '.join(HEADS)}, or none "
        f"{', '.join(FEET)}"
    )
    return Finding("names", "note", text)


def _upright(sample: PoseSample, files: _Files) -> Finding | None:
    """An alarm if heads are not above feet in most clips, and on the same other side in nearly all.

    A warning if they are not in most clips, or on their lower side in some.
    """
    ways = sample.heads_over_feet()
    if ways is None:
        return None
    judged = ~np.isnan(ways).any(axis=1)
    if judged.sum() < _LEAST:
        return None
    up, lengths = sample.skeleton.up, np.linalg.norm(ways, axis=1, keepdims=True)
    along = np.concatenate([ways, -ways], axis=1) > _TILT * lengths  # by _DIRECTIONS
    fallen = judged & ~along[:, up]
    shares = along[judged].mean(axis=0)
    count = f"{int(fallen.sum())} of {int(judged.sum())} clips"
    other = int(np.argmax(shares))
    if shares[up] < _MANY and shares[other] >= _NEARLY_ALL:
        side = _DIRECTIONS[other]
        remedy = files.remedy("up", _declared_up(side, files.coordinates))
        text = f"heads are not above feet in {count}, but towards {side}: {remedy}, unless nearly everybody lies there"
        return Finding("upright", "alarm", text, _named(sample, fallen))
    below = along[:, up + 3]
    if shares[up] < _MANY or below[judged].mean() > _SOME:
        text = f"heads are not above feet in {count}: unless people lie there, correct `up` of these recordings"
        return Finding("upright", "warning", text, _named(sample, fallen))
    return None


def _declared_up(side: str, coordinates: Coordinates | None) -> str:
    """The value of `up` with which the side of the layout where heads are now becomes the upper one."""
    if coordinates is None:
        return side
    axis = side[-1]
    minus = side.startswith("-") ^ (coordinates.factors[AXES.index(axis)] < 0) ^ (coordinates.mirror == axis)
    return f"-{axis}" if minus else axis


def _mirror(sample: PoseSample, files: _Files) -> Finding | None:
    """An alarm if toes, noses, or both knees and elbows point backwards, a warning if toes or noses do in some clips.

    Knees and elbows are judged in three classes of actions at least: in a single one they may bend backwards.
    """
    part, bends = sample.forward_part(), sample.bends()
    if part is not None:
        what, least, scores = part[0], _LEAST, [sample.forward_scores(part[1])]
    elif bends is not None and sample.classes not in (1, 2):
        what, least, scores = "knees and elbows", _LEAST_BENT, [sample.forward_scores(bend) for bend in bends]
    else:
        return None
    judged = ~np.isnan(scores).any(axis=0)
    if judged.sum() < least:
        return None
    wrong = judged & (np.sum(scores, axis=0) < 0)
    count = f"{what} point backwards in {int(wrong.sum())} of {int(judged.sum())} clips"
    names = "joints of the left side are named right (`joints`)"
    if all(_net(one[judged]) <= _BACKWARDS for one in scores):
        reverse = files.coordinates is not None and files.coordinates.mirror is not None
        axis = "z" if sample.skeleton.up == 0 else "x"  # never the vertical one, whose direction `up` has
        remedy = files.remedy("mirror", "" if reverse else axis)
        text = f"{count}: the axes are {'right' if reverse else 'left'}-handed ({remedy}), or {names}"
        return Finding("mirror", "alarm", text, _named(sample, wrong))
    if part is not None and wrong.sum() > max(_LEAST, _SOME * judged.sum()):
        text = f"{count}: the axes of some recordings are left-handed (`mirror`), or {names}"
        return Finding("mirror", "warning", text, _named(sample, wrong))
    return None


def _net(scores: Floats) -> float:
    """Sum of scores as a share of the sum of their sizes, from -1 to 1."""
    total = np.abs(scores).sum()
    return float(scores.sum() / total) if total else 0.0


def _unit(sample: PoseSample, files: _Files) -> Finding | None:
    """An alarm if people are far too large or too small for the unit, a warning if they are in some clips."""
    skeleton, sizes = sample.skeleton, sample.sizes()
    whole = _is_whole(sample)
    smallest, largest = _SIZES[skeleton.unit]
    odd = (sizes > largest) | ((sizes < smallest) & whole)
    size, unit = float(np.median(sizes)), skeleton.unit if skeleton.unit == "m" else f"{skeleton.unit}s"
    if smallest * whole <= size <= largest:
        if odd.mean() <= _SOME:
            return None
        text = (
            f"people extend over less than {smallest:g} or more than {largest:g} {unit} in {odd.mean():.0%} of the "
            "clips: correct `unit` of these recordings"
        )
        return Finding("unit", "warning", text, _named(sample, odd))
    in_files = size / (1.0 if files.coordinates is None else files.coordinates.scale)
    low = _ADULT if whole else _SMALL
    fits = [unit for unit, metres in METRES.items() if low < in_files * metres < _SIZES["m"][1]]
    if sample.flat().all() and in_files < _SIZES["image height"][1]:
        advice = files.remedy("unit", "image height")
    elif fits:
        advice = files.remedy("unit", fits[0])
    elif size > largest:
        advice = f"scale them to metres, or, if they are pixels, {files.remedy('unit', 'pixel')}, and `image_height`"
    else:
        advice = "scale the recordings, or correct `unit`"
    text = f"people extend over {size:.4g} {unit} in the median of {len(sizes)} clips, as if in another unit: {advice}"
    return Finding("unit", "alarm", text, _named(sample, odd))


def _is_whole(sample: PoseSample) -> bool:
    """True if the clips show people from head to foot."""
    return bool(sample.joints(*HEADS) and sample.joints(*FEET[:3]))


def _plane(sample: PoseSample) -> Finding | None:
    """A warning if some clips lie in a plane and others do not, or if positions in a plane are in metres."""
    flat = sample.flat()
    if flat.any() and not flat.all():
        text = f"{int(flat.sum())} of {len(flat)} clips lie in a plane, the others do not: make two sets of them"
        return Finding("plane", "warning", text, _named(sample, flat))
    if flat.all() and sample.skeleton.unit == "m" and _is_whole(sample) and float(np.median(sample.sizes())) < 1:
        text = (
            "positions lie in a plane, and people are under a metre: if they come from images, set `unit: image height`"
        )
        return Finding("plane", "warning", text)
    return None


def _joints(sample: PoseSample) -> Finding | None:
    """An alarm if exchanging two joints shortens the bones, or if left and right of some pairs are exchanged."""
    names = sample.skeleton.joints
    if len(names) > _JOINTS:
        return None
    adjacent = np.zeros((len(names), len(names)))
    for start, end in sample.skeleton.bones:
        adjacent[start, end] = adjacent[end, start] = 1
    if adjacent.sum(axis=0).max() > 2 + len(names) / 4:
        return None  # such bones all start at one joint, and are not those of a body
    # A hand may be nearer to the neighbours of a hip than the hip is; but only bones keep their length.
    distances, deviations = sample.distances()
    shorter = np.where(savings(deviations, adjacent) > _LOOSER, savings(distances, adjacent), 0)
    one, other = divmod(int(shorter.argmax()), len(names))
    if shorter[one, other] <= (_SHORTER if len(sample.poses) >= _FEW else _SHORTER_IN_FEW):
        return _crossed(sample)
    text = (
        f"the bones of layout {sample.skeleton.name} would be {shorter[one, other]:.1%} shorter if {names[one]} and "
        f"{names[other]} were exchanged: the joints of the recordings are probably in another order than `joints`, or "
        "`bones` joins joints that are not neighbours"
    )
    return Finding("joints", "alarm", text, (names[one], names[other]))


def savings(distances: Floats, adjacent: Floats) -> Floats:
    """Share of the length of all bones that exchanging two joints saves, [K, K].

    Args:
        distances: between joints, [K, K]; NaN if no clip shows the two together. Bones between them do not count, and
            no exchange is considered that needs such a length.
        adjacent: 1 where a bone joins two joints, [K, K].
    """
    unknown = np.isnan(distances)
    needed = adjacent @ unknown.astype(float) > 0
    adjacent, distances = adjacent * ~unknown, np.nan_to_num(distances)
    moved = adjacent @ distances  # length of the bones of joint i if it stood where j stands
    own = np.diag(moved)
    saved = own[:, None] + own - moved - moved.T - 2 * adjacent * distances  # their common bone stays
    saved[needed | needed.T] = 0
    total = (adjacent * distances).sum() / 2
    return np.asarray(saved / total if total else np.zeros_like(saved))


def _crossed(sample: PoseSample) -> Finding | None:
    """An alarm if left and right of some pairs of joints are opposite to those of the shoulders in nearly all clips."""
    pairs = [pair for pair in sample.skeleton.pairs if sample.shown[list(pair)].all()]
    if not pairs:
        hips = [sample.joints("hip", side=side)[:1] for side in ("left", "right")]
        pairs = [(hips[0][0], hips[1][0])] if all(hips) else []
    found, clips = [], np.zeros(len(sample.poses), bool)
    for one, other in pairs:
        agree = sample.agreement((one, other), sample.skeleton.shoulders)
        judged = ~np.isnan(agree)
        if judged.sum() >= _LEAST and (agree[judged] < 0).mean() >= _NEARLY_ALL:
            found.append(sample.skeleton.joints[one])
            clips |= agree < 0
    if not found:
        return None
    named = ", ".join(found[:3]) + " and others" * (len(found) > 3)
    text = (
        f"on the side of the right shoulder in nearly all clips: {named}; left and right are exchanged among `joints`, "
        "or in `shoulders`"
    )
    return Finding("joints", "alarm", text, _named(sample, clips))


def _named(sample: PoseSample, where: Bools) -> tuple[str, ...]:
    return tuple(name for name, one in zip(sample.names, where.tolist(), strict=True) if one)[:20]
