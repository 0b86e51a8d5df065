"""Models to hand on: their files, and a card that says what they are, where they come from and when to doubt them."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import torch
import yaml

from bouncegrad.evaluation.score import SHORTEST, Score, score
from bouncegrad.fit import hold_out
from bouncegrad.models.checkpoint import CheckpointError, read_about, write_model
from bouncegrad.models.model import Model
from bouncegrad.recipes import RECIPES, Recipe
from bouncegrad.scenes import Scenes
from bouncegrad.scenes.writing import whole_files
from bouncegrad.version import __version__

CARD = "README.md"
"""The name under which hubs look for cards."""

WIDTH = 120


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model comes from, as far as it is known.

    Attributes:
        recipe: the name of the method; empty for settings of one's own.
        kinds: how many kinds were asked for (:func:`bouncegrad.fit.fit`).
        seed: of all randomness.
        scenes: what the scenes show, in a few words.
        num_scenes: that were learned from and chosen by.
        num_entities: of a scene, at most.
        num_times: samples of a scene.
        time_step: from one sample to the next.
        figures: what was measured on scenes that nothing was learned from: name -> number.
        figures_of: which scenes these were.
        licence: under which the model is handed on, as a hub abbreviates it ("mit"); empty: not said.
        versions: of the packages it was fitted with.
    """

    recipe: str = ""
    kinds: int | Literal["auto"] | None = None
    seed: int | None = None
    scenes: str = ""
    num_scenes: int | None = None
    num_entities: int | None = None
    num_times: int | None = None
    time_step: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    figures_of: str = ""
    licence: str = ""
    versions: Mapping[str, str] = field(default_factory=lambda: {"bouncegrad": __version__, "torch": torch.__version__})


def origin_of_fit(
    model: Model, scenes: Scenes, recipe: str | Recipe, kinds: int | Literal["auto"] | None, seed: int
) -> Origin:
    """The origin of a model that :func:`bouncegrad.fit.fit` has just learned from ``scenes``.

    The figures are those of the scenes that chose between its passes, if there are some beside those it learned from
    and they are long enough to predict.
    """
    kept, held_out = hold_out(scenes, seed)
    is_apart = held_out is not kept and held_out.num_times >= SHORTEST + model.config.network.history
    return Origin(
        recipe=name_of(recipe),
        kinds=kinds,
        seed=seed,
        num_scenes=scenes.num_scenes,
        num_entities=scenes.num_entities,
        num_times=scenes.num_times,
        time_step=scenes.time_step,
        figures=figures_of(score(model, held_out)) if is_apart else {},
        figures_of=f"{held_out.num_scenes} held-out scenes, which only chose between passes" if is_apart else "",
    )


def name_of(recipe: str | Recipe) -> str:
    """The name of a recipe; empty where it has none."""
    if isinstance(recipe, str):
        return recipe
    return next((name for name, known in RECIPES.items() if known == recipe), "")


def figures_of(found: Score) -> dict[str, float]:
    """The figures of a score that a card shows; those that are no finite numbers are left out."""
    labelled = found.match is not None and found.calibration_error is not None
    relations = {"share of relations right": found.match.accuracy} if found.match is not None else {}
    calibration = {"calibration error": found.calibration_error} if labelled else {}
    errors = {f"mean squared error, {steps} steps ahead": error for steps, error in found.mse.items()}
    numbers = {name: float(value) for name, value in (relations | calibration | errors).items() if value is not None}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def save_pretrained(folder: str | os.PathLike[str], model: Model, origin: Origin | None = None) -> None:
    """Write a model so that others can use it: ``model.safetensors``, ``config.json`` and the card ``README.md``.

    Whoever reads it runs none of its code: weights are safetensors, the rest is JSON. The checksum in ``config.json``
    finds damage; it does not prove who wrote the files. The card is for people and is not read back. Where something
    fails, none of the three is written.

    Args:
        folder: made where it does not exist.
        model: any.
        origin: where it comes from, as far as it is known.

    Raises:
        DataError: a folder that cannot be written.
    """
    known = origin or Origin()
    text = card(model, known)
    with whole_files(folder) as temporary:
        write_model(temporary, model, asdict(known))
        (temporary / CARD).write_text(text, encoding="utf-8")


def read_origin(place: str | os.PathLike[str]) -> Origin:
    """Where a saved model comes from; nothing is known of one that :func:`bouncegrad.save_model` wrote.

    Raises:
        CheckpointError: no model, or a changed one.
    """
    about, names = read_about(place), {each.name for each in fields(Origin)}
    try:
        unknown: dict[str, Any] = {"versions": {}}
        return Origin(**unknown | {name: value for name, value in about.items() if name in names})
    except TypeError as error:
        raise CheckpointError(f"{place} does not say where its model comes from ({error}): fit again") from error


def card(model: Model, origin: Origin) -> str:
    """A model's card in Markdown, with the front matter that hubs read.

    Source: Mitchell et al. 2019, *Model cards for model reporting*.
    """
    front: dict[str, Any] = {
        "library_name": "bouncegrad",
        "pipeline_tag": "graph-ml",
        "tags": ["bouncegrad", "relational-inference", "interacting-systems", "trajectories", "graph-networks"],
    } | ({"license": origin.licence} if origin.licence else {})
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        "# Who acts on whom" + (f": {origin.scenes}" if origin.scenes else ""),
        _paragraph(
            "Neural modules that read trajectories of things that move together and say who acts on whom, in which of",
            f"{model.config.network.num_edge_kinds} ways, and what happens next.",
            "They were learned without labels by `bouncegrad`.",
        ),
        _loading(),
        _list("What it was fitted on", _facts(model, origin)),
        _list("What was found", _findings(model)),
        *([_list(f"Measured on {origin.figures_of or 'unseen scenes'}", _numbers(origin))] if origin.figures else []),
        _list("When not to believe it", _doubts(model, origin)),
    ]
    return "\n\n".join(parts) + "\n"


def _loading() -> str:
    return """## How to load it

```python
from bouncegrad import RelationalModel

model = RelationalModel.from_pretrained("FOLDER")  # this folder, once it is on your machine
posterior = model.infer("scenes.npz")
print(posterior.relations[0])  # row: who is acted on; column: who acts
```"""


def _facts(model: Model, origin: Origin) -> list[str]:
    told = {
        "scenes": origin.num_scenes,
        "entities in a scene": origin.num_entities,
        "samples of a scene": origin.num_times,
        "time from one sample to the next": None if origin.time_step is None else f"{origin.time_step:g}",
        "features": ", ".join(model.feature_names),
        "recipe": origin.recipe or "one without a name",
        "seed": origin.seed,
        "versions": ", ".join(f"{name} {version}" for name, version in origin.versions.items()) or None,
    }
    return [f"{name}: {'not known' if value is None else value}" for name, value in told.items()]


def _findings(model: Model) -> list[str]:
    reading, num_kinds = model.reading, model.config.network.num_edge_kinds
    kinds = f"kinds of relation: {num_kinds}" if model.kinds is None else f"kinds of relation: {model.kinds}"
    temperature = reading.temperature_under(reading.prior)
    forecaster = (
        ["predictions are made by modules of their own, which graphs are not read off"] if model.forecaster else []
    )
    return [
        kinds + "; they are numbers without names",
        f"prior under which graphs are read: {reading.prior}",
        f"temperature of reading: {temperature:.3g} (above 1 where the modules alone would be too sure)",
        *forecaster,
    ]


def _numbers(origin: Origin) -> list[str]:
    unit = "; errors in units in which the data run from -1 to 1" if any("error," in n for n in origin.figures) else ""
    figures = [f"{name}: {value:.4g}" for name, value in origin.figures.items()]
    return [*figures[:-1], figures[-1] + unit]


def _doubts(model: Model, origin: Origin) -> list[str]:
    low, high = model.normalization.minimum, model.normalization.maximum
    ranges = ", ".join(
        f"{name} {least:.3g} to {most:.3g}" for name, least, most in zip(model.feature_names, low, high, strict=True)
    )
    step = "another time step" if origin.time_step is None else f"a time step other than {origin.time_step:g}"
    return [
        f"on scenes with {step}: it predicts from one sample to the next",
        f"in other units, or far outside what it has seen ({ranges})",
        "where other forces act than in its scenes, or the rules of motion change within a scene",
        "where relations change within a scene, or what happens depends on more than the present state",
        "where much noise is on the measurements and its scenes had little",
        "where a probability near 1 would be costly if wrong: compare a few answers with what is known first",
    ]


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)])


def _paragraph(*words: str) -> str:
    return textwrap.fill(" ".join(words), WIDTH, break_long_words=False, break_on_hyphens=False)
