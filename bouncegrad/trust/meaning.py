"""Meaning of each edge type (kind): what its module does to receivers, measured without names and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from bouncegrad.devices import on_cpu
from bouncegrad.inference import Posterior, infer
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.trust.edge_effects import Axes, PairEffects
from bouncegrad.trust.force_curves import NUM_KNOTS, Curve, Push, Response

Word: TypeAlias = Literal["nothing", "attracts", "repels", "follows", "avoids", "mixed", "unused"]
"""Effect of an edge type on the receiver: pushes it towards the sender (attracts) or away (repels); makes it move, or
change, as the sender does (follows) or the opposite way (avoids); an effect that none of these words describes (mixed);
no effect (nothing); too few pairs to measure one (unused)."""

WEAK = 0.1
"""Typical size of effects, relative to the strongest edge type's, up to which an edge type has no effect (for standard
deviations, the limit of :func:`bouncegrad.inference.weakest_kind`). Springs of strength 0: 0.0003 to 0.02; charges that
repel, beside charges that attract and so come close: 0.2."""

UNSEEN = 0.006
"""Typical size of effects, in standard deviations of the residuals of the linear skip, up to which an edge type has no
effect even if it is the strongest. Models of particles without interaction: 0.001 to 0.005; charges that repel: 0.01
and more."""

EXPLAINED = 0.5
"""Share of an edge type's effects that a word must explain."""

ONE_WAY = 0.8
"""Share of the explained effects that must have one sign."""


@dataclass(frozen=True, slots=True)
class KindMeaning:
    """Effect of an edge type on the receiver.

    Attributes:
        kind: number of the edge type.
        word: the effect in one word.
        share: share of all pairs with this edge type.
        strength: root mean square of its push, in the unit of ``features`` per time step.
        relative: typical size of its effects in standard deviations of the residuals of the linear skip, over all
            features: ``mean(sqrt(size))^2``, which a few collisions do not dominate.
        features: features in which the push is measured: velocities, or positions where there are none; empty without
            positions.
        towards: push along the line to the sender as a function of distance; None without positions.
        explained_by_place: share of the push that acts along that line, as a function of distance.
        explained_by_speed: share that acts along the sender's velocity relative to the receiver's.
        responses: effects on all features that are neither positions nor velocities.
    """

    kind: int
    word: Word
    share: float
    strength: float
    relative: float
    features: tuple[str, ...]
    towards: Curve | None
    explained_by_place: float
    explained_by_speed: float
    responses: tuple[Response, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def __str__(self) -> str:
        head = f"kind {self.kind} ({100 * self.share:.0f} % of pairs)"
        if self.word == "unused":
            return f"{head} is not used in these scenes"
        if self.word == "nothing":
            return f"{head} does next to nothing"
        verb = {"mixed": "has an effect that no word describes"}.get(self.word, self.word)
        lines = [f"{head} {verb}"]
        if self.towards is not None:
            what = f"{self.strength:.3g} (rms) in {', '.join(self.features)} a step; {self.towards.trend}"
            lines[0] += f": {what}; {100 * self.explained_by_place:.0f} % along the line to the sender"
            lines[0] += f", {100 * self.explained_by_speed:.0f} % along its velocity" if self.explained_by_speed else ""
            lines.append(str(self.towards))
        for each in self.responses:
            lines.append(
                f"  {each.feature}: {each.strength:.3g} a step, {each.slope:+.3g} for each unit that the sender has "
                f"more ({100 * each.explained:.0f} % explained)"
            )
            lines.append(str(each.curve))
        return "\n".join(lines)


def describe_kinds(model: Model, scenes: Scenes, posterior: Posterior | None = None) -> tuple[KindMeaning, ...]:
    """Describe the effect of each edge type on the receiver's next state, over the pairs of scenes that have it.

    With positions, the push is the effect on the velocities (on the positions where there are no velocities). Two
    functions are fitted to it by least squares (:mod:`bouncegrad.trust.force_curves`): ``g(distance) n``, with ``n``
    the direction to the sender, and ``h(distance) w``, with ``w`` the sender's velocity minus the receiver's. The word
    follows from the share that each function explains and from the sign of the push. For other features, and for all
    features of scenes without positions, the effect is fitted by the difference of the same feature.

    Args:
        model: a model with any composition of modules.
        scenes: scenes on which effects are measured.
        posterior: posterior of these scenes; inferred if None.

    Returns:
        One description for each edge type, in the order of their numbers.
    """
    found = infer(model, scenes) if posterior is None else posterior
    pairs, axes = PairEffects.of(on_cpu(model), scenes, found), Axes.of(scenes.feature_names)
    sizes = (pairs.effects / pairs.unit).square().mean(1).sqrt()
    chosen = [pairs.kinds == kind for kind in range(len(pairs.shares))]
    relative = [float(sizes[members].sqrt().mean().square()) if members.any() else 0.0 for members in chosen]
    least = max(WEAK * max(relative), UNSEEN)
    return tuple(
        _meaning(pairs, kind, axes, scenes.feature_names, (relative[kind], least)) for kind in range(len(chosen))
    )


def _meaning(
    pairs: PairEffects, kind: int, axes: Axes, names: Sequence[str], sizes: tuple[float, float]
) -> KindMeaning:
    members, relative = pairs.kinds == kind, sizes[0]
    effects, differences = pairs.effects[members], pairs.differences[members]
    used = len(effects) >= NUM_KNOTS
    push = Push.of(effects, differences, axes) if axes.places and used else None
    others = [number for number in range(len(names)) if number not in (*axes.places, *axes.speeds)]
    responses = tuple(Response.of(names[f], effects[:, f], differences[:, f]) for f in others if used)
    weights = tuple(float((effects[:, f] / pairs.unit[f]).square().sum()) for f in others if used)
    word: Word = "unused" if not used else "nothing" if relative <= sizes[1] else _word(push, responses, weights)
    return KindMeaning(
        kind=kind,
        word=word,
        share=float(pairs.shares[kind]),
        strength=push.strength if push else max((each.strength for each in responses), default=0.0),
        relative=relative,
        features=tuple(names[f] for f in axes.moved),
        towards=push.towards if push else None,
        explained_by_place=push.by_place if push else 0.0,
        explained_by_speed=push.by_speed if push else 0.0,
        responses=responses,
    )


def _word(push: Push | None, responses: Sequence[Response], weights: Sequence[float]) -> Word:
    """The word for the better of both fits of the push, or for the strongest response where there is no push."""
    if push is None:
        response = responses[max(range(len(weights)), key=lambda place: weights[place])]
        return "mixed" if response.explained < EXPLAINED else "follows" if response.slope > 0 else "avoids"
    if max(push.by_place, push.by_speed) < EXPLAINED:
        return "mixed"
    if push.by_place >= push.by_speed:
        return _either(push.attracting, "attracts", "repels")
    return _either(push.following, "follows", "avoids")


def _either(positive: float, towards: Word, away: Word) -> Word:
    return towards if positive >= ONE_WAY else away if positive <= 1 - ONE_WAY else "mixed"
