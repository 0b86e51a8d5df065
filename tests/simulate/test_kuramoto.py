"""Coupled oscillators: motion with known answers, what is measured of it, and the traps of the published features."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from bouncegrad.cli import main
from bouncegrad.scenes import read_scenes
from bouncegrad.simulate import Kuramoto
from bouncegrad.simulate.kuramoto import (
    SAMPLE_EVERY,
    STEP,
    Oscillators,
    angle_features,
    integrate_phases,
    published_features,
)


def one_scene(frequencies, phases, couplings):
    return Oscillators(np.array([frequencies]), np.array([phases]), np.array([couplings], float))


def two(difference, frequency_difference, coupling=1.0):
    """Two oscillators that are joined, the first ahead by ``difference``."""
    return one_scene([2.0 + frequency_difference, 2.0], [1.0 + difference, 1.0], [[0, coupling], [coupling, 0]])


def random_scenes(num_scenes=20, num_entities=5, seed=0):
    generator = np.random.default_rng(seed)
    size = (num_scenes, num_entities)
    lower = np.tril(generator.integers(0, 2, (*size, num_entities)), -1)
    return Oscillators(generator.uniform(1, 10, size), generator.uniform(0, 6, size), lower + lower.swapaxes(1, 2))


# motion with known answers


def test_oscillators_without_partners_turn_at_their_own_frequency():
    start = Oscillators(*np.random.default_rng(0).uniform(1, 10, (2, 4, 3)), np.zeros((4, 3, 3)))
    times = STEP * np.arange(501)[:, None, None]
    np.testing.assert_allclose(integrate_phases(start, 500), start.phases + start.frequencies * times, rtol=1e-12)


def test_two_equal_oscillators_meet():
    """``d' = -2 sin d``, so ``tan(d / 2) = tan(d_0 / 2) exp(-2 t)``."""
    path = integrate_phases(two(2.5, 0.0), 400)[:, 0]
    expected = 2 * np.arctan(np.tan(1.25) * np.exp(-2 * STEP * np.arange(401)))
    np.testing.assert_allclose(path[:, 0] - path[:, 1], expected, atol=1e-8)
    np.testing.assert_allclose(path.sum(1), 4.5 + 4.0 * STEP * np.arange(401), rtol=1e-12)  # their pulls cancel


def test_two_unequal_oscillators_drift_apart_as_they_should():
    """``d' = w - 2 sin d`` with w > 2: ``tan(d / 2) = 2 / w + (s / w) tan(s t / 2 + c)``, ``s^2 = w^2 - 4``."""
    apart, root = 3.0, np.sqrt(5.0)
    path = integrate_phases(two(0.0, apart), 500)[:, 0]
    angle = root / 2 * STEP * np.arange(501) + np.arctan(-2 / root)
    half = 2 / apart + root / apart * np.tan(angle)
    expected = np.stack([1 - half**2, 2 * half]) / (1 + half**2)
    found = path[:, 0] - path[:, 1]
    np.testing.assert_allclose([np.cos(found), np.sin(found)], expected, atol=1e-7)


@pytest.mark.parametrize("apart", [-1.9, -0.4, 0.0, 1.0, 1.5])
def test_two_oscillators_lock_where_their_pulls_balance(apart):
    path = integrate_phases(two(0.7, apart), 4000)[-1, 0]
    assert path[0] - path[1] == pytest.approx(np.arcsin(apart / 2), abs=1e-6)


@pytest.mark.parametrize(("receiver", "sender"), [(0, 1), (1, 0)])
def test_a_sender_moves_its_receiver_and_not_the_reverse(receiver, sender):
    couplings = np.zeros((2, 2))
    couplings[receiver, sender] = 1
    path = integrate_phases(one_scene([2.0, 2.0], [0.0, 1.0], couplings), 50)[:, 0]
    assert path[-1, sender] - path[0, sender] == pytest.approx(2.0 * 50 * STEP)
    towards = np.sign(path[0, sender] - path[0, receiver])
    assert (path[-1, receiver] - path[0, receiver] - 2.0 * 50 * STEP) * towards > 0.1


def test_the_step_is_fine_enough():
    start = random_scenes()
    coarse, fine = integrate_phases(start, 500), integrate_phases(start, 5000, step=STEP / 10)
    np.testing.assert_allclose(coarse, fine[::10], atol=1e-6)


# what is drawn


def test_oscillators_are_drawn_as_published():
    scenes = Kuramoto(4, features="published").draw(4000, generator=0, num_samples=2)
    labels = scenes.relations
    assert torch.equal(labels, labels.mT)
    assert labels.unique().tolist() == [0, 1]
    assert (labels.diagonal(dim1=1, dim2=2) == 0).all()
    assert labels[:, *np.tril_indices(4, -1)].mean() == pytest.approx(0.5, abs=0.01)
    frequency, sine = scenes.states[:, 0, :, 3], scenes.states[:, 0, :, 1]
    assert (frequency.abs() <= 1).all()
    assert frequency.std() == pytest.approx(1 / np.sqrt(3), rel=0.02), "uniform"
    assert frequency.mean() == pytest.approx(0, abs=0.02)
    assert (sine.mean(), sine.std()) == (pytest.approx(0, abs=0.02), pytest.approx(np.sqrt(0.5), rel=0.02))


def test_progress_bar_counts_chunks(capsys):
    Kuramoto(3).draw(2, generator=0, num_samples=2, progress=True)
    assert "chunks of 3640 scenes" in capsys.readouterr().out


# what is measured


def test_angles_are_in_common_units_and_exact():
    start = random_scenes()
    path = integrate_phases(start, 481)
    features = angle_features(start, path)
    assert features.shape == (49, 20, 5, 3)
    np.testing.assert_allclose(features[..., 0] + 1j * features[..., 1], np.exp(1j * path[:481:SAMPLE_EVERY]))
    centred = (path[SAMPLE_EVERY + 1 :: SAMPLE_EVERY] - path[SAMPLE_EVERY - 1 : -1 : SAMPLE_EVERY]) / (2 * STEP)
    np.testing.assert_allclose(features[1:, ..., 2], centred, atol=0.02)
    alone = angle_features(one_scene([3.0, 7.0], [0.0, 1.0], np.zeros((2, 2))), np.zeros((12, 1, 2)))
    np.testing.assert_array_equal(alone[..., 2], np.broadcast_to([3.0, 7.0], (2, 1, 2)))  # nothing is set to 0


def test_drawn_scenes_obey_the_equation():
    """The rate that is written is the frequency plus the pulls of the partners, at every sample."""
    scenes = Kuramoto(4).draw(30, generator=2)
    cosine, sine, rate = scenes.states.unbind(-1)
    labels = scenes.relations[:, None]
    pulls = cosine * (labels @ sine[..., None])[..., 0] - sine * (labels @ cosine[..., None])[..., 0]
    frequencies = rate - pulls
    torch.testing.assert_close(frequencies, frequencies[:, :1].expand_as(frequencies), rtol=0, atol=1e-9)
    assert ((frequencies >= 1 - 1e-9) & (frequencies <= 10 + 1e-9)).all()


def test_published_rates_are_zero_for_those_without_partners_and_only_for_them():
    scenes = Kuramoto(3, features="published").draw(200, generator=0)
    alone = (scenes.relations == 0).all(2)
    silent = (scenes.states[..., 0] == 0).all(1)
    assert 0.1 < alone.double().mean() < 0.4
    assert torch.equal(alone, silent), "the trap: the zeros give labels away"


def test_published_extremes_hide_how_strong_a_coupling_is():
    weak, strong = two(2.0, 0.0, 0.01), two(2.0, 0.0, 0.02)
    hidden, shown = (
        [features(start, integrate_phases(start, 101))[..., index] for start in (weak, strong)]
        for features, index in ((published_features, 0), (angle_features, 2))
    )
    spread = [float(np.ptp(rate, axis=0).max()) for rate in shown]
    assert spread[1] > 3 * spread[0], "in common units twice the coupling is seen"
    np.testing.assert_array_equal(hidden[0].min(0), hidden[1].min(0))
    np.testing.assert_allclose(hidden[0], hidden[1], atol=0.02)


def test_published_features_are_scaled_by_own_extremes():
    start = random_scenes()
    path = integrate_phases(start, 481)
    rate, sine, phase, frequency = np.moveaxis(published_features(start, path), -1, 0)
    joined = start.couplings.any(2)
    for values in (rate[:, joined], phase.reshape(49, -1)):
        np.testing.assert_allclose(
            [values.min(0), values.max(0)], [-np.ones(values.shape[1]), np.ones(values.shape[1])]
        )
    np.testing.assert_allclose(sine, np.sin(path[:481:SAMPLE_EVERY]))
    np.testing.assert_allclose(frequency, np.broadcast_to((start.frequencies - 5.5) / 4.5, frequency.shape))
    difference = (path[1] - path[0]) / STEP
    later = (path[11] - path[10]) / STEP
    assert (((later - difference) * (rate[1] - rate[0]))[joined] > 0).all(), "forward differences, in their order"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Kuramoto(1), "num_entities must be 2 or more"),
        (lambda: Kuramoto(features="sines"), "features must be one of angles, published; got 'sines'"),
    ],
)
def test_errors_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# the command


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ("cos", "sin", "rate")),
        (["--features", "angles", "--noise", "0.01"], ("cos", "sin", "rate")),
        (["--features", "published"], ("rate", "sin", "phase", "frequency")),
    ],
)
def test_from_the_simulation_to_the_prediction(words, names, tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    counts = ["--entities", "3", "--train", "12", "--valid", "4", "--test", "3"]
    assert main(["simulate", "kuramoto", *words, *counts, "--out", str(data)]) == 0
    assert "fit with --settings.model.network.inputs absolute" in capsys.readouterr().out
    files = {path.name for path in data.iterdir()}
    assert files == {"scenes.json"} | {
        f"{array}_{split}_kuramoto3.npy" for array in ("states", "edges") for split in ("train", "valid", "test")
    }
    assert read_scenes(data, "test").feature_names == names
    quick = ["--settings.training.num_passes", "1", "--settings.model.network.hidden", "8", "--quiet"]
    absolute = ["--settings.model.network.inputs", "absolute"]
    assert main(["fit", "--data", str(data), "--out", str(run), *absolute, *quick]) == 0
    given = ["--model", str(run), "--data", str(data)]
    assert main(["infer", *given, "--out", str(tmp_path / "relations.csv"), "--picture", str(tmp_path / "g.png")]) == 0
    assert main(["predict", *given, "--steps", "5", "--out", str(tmp_path / "future.npz")]) == 0
    assert read_scenes(tmp_path / "future.npz").feature_names == names
    capsys.readouterr()
    assert main(["evaluate", *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_scenes"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kuramoto", "--strengths", "0", "2"], "only springs can have --strengths"),
        (["kuramoto", "--directed", "--density", "0.2"], "only springs can have --directed, --density"),
        (["springs", "--features", "angles"], "only kuramoto can have --features"),
        (["charged", "--features", "published"], "only kuramoto can have --features"),
        (["kuramoto", "--features", "sines"], "invalid choice: 'sines'"),
        (["kuramoto", "--canonical"], "canonical scenes of springs and charged only.*leave --canonical out"),
    ],
)
def test_options_that_do_not_fit_are_refused(words, message, tmp_path, capsys):
    assert main(["simulate", *words, "--train", "2", "--out", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert not (tmp_path / "data").exists()
