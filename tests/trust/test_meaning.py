"""What kinds do, read off modules of which we know it."""

from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from bouncegrad.energies.windows import pack
from bouncegrad.inference import Posterior, infer
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.plots import draw_meanings
from bouncegrad.plots.meanings import _stretch
from bouncegrad.scenes import Normalization, Scenes
from bouncegrad.structures.layout import to_slots
from bouncegrad.trust import Curve, KindMeaning, Response, describe_kinds
from bouncegrad.trust.edge_effects import Axes, PairEffects
from small import springs, untrained
from worlds import generator


def random_posterior(model: Model, scenes: Scenes) -> Posterior:
    """Structures drawn by lot."""
    layout = model.layout(scenes.num_entities)
    structures = layout.random(scenes.num_scenes, generator(3))
    unknown = torch.zeros(scenes.num_scenes)
    marginals = torch.nn.functional.one_hot(structures, max(layout.num_kinds)).float()
    return Posterior(structures, unknown, marginals, layout, "none", unknown)


def linear(scenes: Scenes, maps: Tensor) -> Model:
    """Messages that are linear in the difference of states, ``x W`` with one ``W`` for each kind.

    ``x = relu(x) - relu(-x)``, so two layers do.
    """
    num_features = scenes.num_features
    network = NetworkConfig(num_edge_kinds=len(maps), hidden=2 * num_features, edge_layers=2)
    config = ModelConfig(network, NoiseConfig("shared"))
    model = Model(config, Normalization.fit(scenes), scenes.feature_names, generator()).eval()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
        same = torch.eye(num_features)
        model.network.edge_modules.weights[0].copy_(torch.cat([same, -same], 1).expand(len(maps), -1, -1))
        model.network.edge_modules.weights[1].copy_(torch.cat([maps, -maps], 1))
    return model


def test_springs_attract(springs_model):
    """A spring pulls by 0.1 a unit of distance and time, and samples are 0.1 apart."""
    scenes = springs(40, seed=5)
    kinds = {meaning.word: meaning for meaning in describe_kinds(springs_model, scenes)}
    assert set(kinds) == {"nothing", "attracts"}
    found = kinds["attracts"].towards
    assert found is not None
    assert [push / at for at, push in zip(found.at, found.push, strict=True)] == pytest.approx([0.01] * 8, rel=0.1)
    assert found.trend == "growing with distance"
    assert kinds["attracts"].explained_by_place > 0.95
    assert "attracts" in str(kinds["attracts"])
    assert "does next to nothing" in str(kinds["nothing"])


def test_words_of_known_modules():
    """Nothing, pulls and pushes along the line, and along the velocity, told apart by the module alone."""
    scenes = springs(20)
    place, speed = torch.zeros(4, 4), torch.zeros(4, 4)
    place[0, 2] = place[1, 3] = 0.1
    speed[2, 2] = speed[3, 3] = 0.1
    model = linear(scenes, torch.stack([0 * place, place, -place, speed, -speed]))
    found = describe_kinds(model, scenes, random_posterior(model, scenes))
    assert [kind.word for kind in found] == ["nothing", "attracts", "repels", "follows", "avoids"]
    assert found[1].explained_by_place == pytest.approx(1.0, abs=1e-3)
    assert found[3].explained_by_speed == pytest.approx(1.0, abs=1e-3)
    assert sum(kind.share for kind in found) == pytest.approx(1.0)


def test_features_without_places():
    """Cars of which only speeds are known: one kind adapts, one does the opposite, one does nothing."""
    whole = springs(20)
    scenes = Scenes(whole.states[..., 2:3], whole.mask, 0.1, ("speed",), whole.entity_names)
    model = linear(scenes, torch.tensor([[[0.0]], [[0.2]], [[-0.1]]]))
    found = describe_kinds(model, scenes, random_posterior(model, scenes))
    assert [kind.word for kind in found] == ["nothing", "follows", "avoids"]
    assert [kind.responses[0].slope for kind in found] == pytest.approx([0.0, 0.2, -0.1], abs=1e-5)
    assert found[1].towards is None
    assert "speed: " in str(found[1])


def test_positions_without_velocities():
    whole = springs(20)
    scenes = Scenes(whole.states[..., :2], whole.mask, 0.1, ("x", "y"), whole.entity_names)
    model = linear(scenes, torch.stack([torch.zeros(2, 2), 0.1 * torch.eye(2)]))
    found = describe_kinds(model, scenes, random_posterior(model, scenes))
    assert [kind.word for kind in found] == ["nothing", "attracts"]
    assert found[1].features == ("x", "y")


def test_axes():
    assert Axes.of(("x0", "x1", "vx0", "vx1")) == Axes((0, 1), (2, 3))
    assert Axes.of(("x", "y", "vx")) == Axes((0, 1), ())
    assert Axes.of(("speed",)).moved == ()


@pytest.mark.parametrize("update", ["general", "superposed"])
def test_effects_are_what_silence_would_change(update):
    """Where a kind is silent, the effect of a pair is what its sender's silence changes in the prediction."""
    scenes = springs(4)
    model = untrained(scenes, NetworkConfig(hidden=6, update=update, silent_first=True), NoiseConfig("shared"))
    with torch.no_grad():
        model.network.skip_weight.zero_()
    posterior = random_posterior(model, scenes)
    batch = pack(model, scenes)
    matrix = posterior.relations.clone()
    matrix[:, 0, 1] = 0
    sender_mask, unheard = (
        batch.graph.unpack_nodes(model.network.rollout(batch.states[:, :-1], batch.graph, each, 1)[:, :, 0])[:, 0]
        for each in (posterior.structures, to_slots(matrix))
    )
    wanted = model.normalization.undo(sender_mask) - model.normalization.undo(unheard)
    pairs = PairEffects.of(model, scenes, posterior)
    effects = pairs.effects.view(4, 6, 48, 4)[:, 0]  # the first slot: 1 acts on 0
    torch.testing.assert_close(effects, wanted.detach(), atol=1e-5, rtol=1e-4)


def test_pairs_that_nobody_saw_are_left_out(springs_model):
    scenes = springs(6)
    mask = scenes.mask.clone()
    mask[:, :, 2] = False
    pairs = PairEffects.of(springs_model, replace(scenes, mask=mask), infer(springs_model, replace(scenes, mask=mask)))
    assert len(pairs.kinds) == 6 * 2 * 48


def test_a_kind_that_is_not_used(springs_model):
    scenes = springs(6)
    posterior = infer(springs_model, scenes)
    alone = replace(posterior, structures=torch.ones_like(posterior.structures))
    found = describe_kinds(springs_model, scenes, alone)
    assert found[0].word == "unused"
    assert "not used" in str(found[0])


def curve_of(at: tuple[float, ...], push: tuple[float, ...]) -> Curve:
    return Curve(at, push, tuple(0.1 for _ in at))


@pytest.mark.parametrize(("has_positions", "scale"), [(True, "symlog"), (False, "linear")])
def test_the_scale_is_logarithmic_against_distance_only(has_positions, scale):
    """What answers to a difference goes through 0 with it, so its sizes always differ much."""
    curve = curve_of((-1.0, 0.1, 2.0), (-0.1, 0.001, 0.2))
    responses = (Response("speed", 0.1, 0.1, 0.4, curve),)
    shown = KindMeaning(1, "mixed", 0.1, 0.1, 1.0, (), None, 0.0, 0.0, responses)
    axes = Figure().subplots()
    _stretch(axes, [replace(shown, features=("vx",), towards=curve) if has_positions else shown])
    assert axes.get_yscale() == scale


def test_picture(springs_model, tmp_path):
    found = describe_kinds(springs_model, springs(10))
    for name in ("kinds.png", "kinds.svg"):
        draw_meanings(found, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ValueError, match="one edge type or more"):
        draw_meanings([], tmp_path / "kinds.png")
    with pytest.raises(ValueError, match="expected a picture file"):
        draw_meanings(found, tmp_path / "kinds.txt")


def test_senders_with_gaps_in_their_history_say_nothing():
    scenes = springs(2)
    mask = scenes.mask.clone()
    mask[:, 10, 1] = False
    gappy = replace(scenes, mask=mask)
    model = untrained(scenes, NetworkConfig(hidden=6, history=3, unseen="silent"))
    pairs = PairEffects.of(model, gappy, random_posterior(model, gappy))
    starts = 49 - 3  # of which the gap costs pairs with entity 1 three, and its own motion one more
    assert len(pairs.kinds) == 2 * (2 * (starts + starts - 3) + 2 * (starts - 4))


def test_what_does_not_act_is_not_explained():
    scenes = springs(2)
    model = linear(scenes, torch.zeros(2, 4, 4))
    for meaning in describe_kinds(model, scenes, random_posterior(model, scenes)):
        assert (meaning.word, meaning.explained_by_place, meaning.explained_by_speed) == ("nothing", 0, 0)
