"""Model cards: the files of a shared model, with its provenance, its figures and the limits of its use."""

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
"""File name of the model card, as model hubs expect it."""

WIDTH = 120


@dataclass(frozen=True, slots=True)
class Origin:
    """Provenance of a model, as far as it is known.

    Attributes:
        recipe: name of the recipe; empty for a recipe without a name.
        kinds: number of edge types requested (``kinds`` of :func:`bouncegrad.fit`).
        seed: seed of all randomness.
        scenes: a short description of the scenes.
        num_scenes: number of training and held-out scenes.
        num_entities: largest number of entities of a scene.
        num_times: samples of a scene.
        time_step: time between two samples.
        figures: measurements on held-out scenes: name -> number.
        figures_of: a description of those scenes.
        licence: licence of the model, as a hub abbreviates it ("mit"); empty: none given.
        versions: package name -> version at the time of the fit.
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
    """Provenance of a model that :func:`bouncegrad.fit` trained on ``scenes``.

    The figures are measured on the held-out scenes, if these differ from the training scenes and are long enough to
    predict.
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
        figures_of=f"{held_out.num_scenes} held-out scenes, which only selected the best epoch" if is_apart else "",
    )


def name_of(recipe: str | Recipe) -> str:
    """The name of a recipe in :data:`bouncegrad.RECIPES`; empty where it has none."""
    if isinstance(recipe, str):
        return recipe
    return next((name for name, known in RECIPES.items() if known == recipe), "")


def figures_of(found: Score) -> dict[str, float]:
    """The figures of a score that a card shows; those that are not finite are left out."""
    labelled = found.match is not None and found.calibration_error is not None
    relations = {"share of relations right": found.match.accuracy} if found.match is not None else {}
    calibration = {"calibration error": found.calibration_error} if labelled else {}
    errors = {f"mean squared error, {steps} steps ahead": error for steps, error in found.mse.items()}
    numbers = {name: float(value) for name, value in (relations | calibration | errors).items() if value is not None}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def save_pretrained(folder: str | os.PathLike[str], model: Model, origin: Origin | None = None) -> None:
    """Write a model to share: ``model.safetensors``, ``config.json`` and the card ``README.md``.

    Loading it runs no code from the files: weights are safetensors, the rest is JSON. The checksum in ``config.json``
    detects damage; it does not prove who wrote the files. The card is for people and is not read back. If writing
    fails, none of the three files is written.

    Args:
        folder: created where it does not exist.
        model: the model.
        origin: its provenance, as far as it is known.

    Raises:
        DataError: the folder cannot be written.
    """
    known = origin or Origin()
    text = card(model, known)
    with whole_files(folder) as temporary:
        write_model(temporary, model, asdict(known))
        (temporary / CARD).write_text(text, encoding="utf-8")


def read_origin(place: str | os.PathLike[str]) -> Origin:
    """Provenance of a saved model; empty for a model that :func:`bouncegrad.save_model` wrote.

    Raises:
        CheckpointError: there is no model, or its files were changed.
    """
    about, names = read_about(place), {each.name for each in fields(Origin)}
    try:
        unknown: dict[str, Any] = {"versions": {}}
        return Origin(**unknown | {name: value for name, value in about.items() if name in names})
    except TypeError as error:
        raise CheckpointError(f"the provenance in {place} cannot be read ({error}): fit again") from error


def card(model: Model, origin: Origin) -> str:
    """Model card in Markdown, with the YAML front matter that model hubs read.

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
            "Neural modules that infer from trajectories of interacting entities who acts on whom, with which of",
            f"{model.config.network.num_edge_kinds} edge types, and predict what happens next.",
            "They were learned without labels by `bouncegrad`.",
        ),
        _loading(),
        _list("What it was fitted on", _facts(model, origin)),
        _list("What was found", _findings(model)),
        *([_list(f"Measured on {origin.figures_of or 'unseen scenes'}", _numbers(origin))] if origin.figures else []),
        _list("When not to trust it", _limits(model, origin)),
    ]
    return "\n\n".join(parts) + "\n"


def _loading() -> str:
    return """## How to load it

```python
from bouncegrad import RelationalModel

model = RelationalModel.from_pretrained("FOLDER")  # this folder, once it is on your machine
posterior = model.infer("scenes.npz")
print(posterior.relations[0])  # row: receiver, which is acted on; column: sender, which acts
```"""


def _facts(model: Model, origin: Origin) -> list[str]:
    facts = {
        "scenes": origin.num_scenes,
        "entities in a scene": origin.num_entities,
        "samples of a scene": origin.num_times,
        "time from one sample to the next": None if origin.time_step is None else f"{origin.time_step:g}",
        "features": ", ".join(model.feature_names),
        "recipe": origin.recipe or "without a name",
        "seed": origin.seed,
        "versions": ", ".join(f"{name} {version}" for name, version in origin.versions.items()) or None,
    }
    return [f"{name}: {'not known' if value is None else value}" for name, value in facts.items()]


def _findings(model: Model) -> list[str]:
    reading, num_kinds = model.reading, model.config.network.num_edge_kinds
    kinds = f"edge types: {num_kinds}" if model.kinds is None else f"edge types: {model.kinds}"
    temperature = reading.temperature_under(reading.prior)
    forecaster = (
        ["predictions come from separate modules, which do not take part in inference"] if model.forecaster else []
    )
    return [
        kinds + "; they are numbered, not named",
        f"prior over latent graphs: {reading.prior}",
        f"temperature of the posterior: {temperature:.3g} (above 1 where the modules alone are overconfident)",
        *forecaster,
    ]


def _numbers(origin: Origin) -> list[str]:
    unit = "; errors in units in which the data run from -1 to 1" if any("error," in n for n in origin.figures) else ""
    figures = [f"{name}: {value:.4g}" for name, value in origin.figures.items()]
    return [*figures[:-1], figures[-1] + unit]


def _limits(model: Model, origin: Origin) -> list[str]:
    low, high = model.normalization.minimum, model.normalization.maximum
    ranges = ", ".join(
        f"{name} {least:.3g} to {most:.3g}" for name, least, most in zip(model.feature_names, low, high, strict=True)
    )
    step = "another time step" if origin.time_step is None else f"a time step other than {origin.time_step:g}"
    return [
        f"on scenes with {step}: it predicts from one sample to the next",
        f"in other units, or far outside its training range ({ranges})",
        "where other forces act than in its training scenes, or the dynamics change within a scene",
        "where relations change within a scene, or the next state depends on more than the present one",
        "where measurements are much noisier than in its training scenes",
        "where a wrong probability near 1 is costly: compare a few results with known relations first",
    ]


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)])


def _paragraph(*words: str) -> str:
    return textwrap.fill(" ".join(words), WIDTH, break_long_words=False, break_on_hyphens=False)
