"""The list of rows: method, number of epochs and readings of each. A new method is added here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bouncegrad.recipes import Recipe, recipe_named

SYSTEMS = ("springs5", "charged5")


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers of canonical training, held-out and test scenes.

    Attributes:
        num_train: training scenes in the tables.
        num_valid: largest number of held-out scenes, which are unlabelled.
        num_test: test scenes.
        sizes: numbers of training scenes along figure 3; the last one is that of the tables.
    """

    num_train: int
    num_valid: int
    num_test: int
    sizes: tuple[int, ...] = ()

    def counts(self, num_scenes: int) -> dict[str, int]:
        """Split -> number of scenes, for a row with ``num_scenes`` training scenes.

        Held-out scenes are data, too: there are at most a quarter as many as training scenes.
        """
        return {"train": num_scenes, "valid": min(self.num_valid, num_scenes // 4), "test": self.num_test}


SCALES = {
    "small": Scale(1_000, 200, 300, (50, 100, 200, 500, 1_000)),
    "full": Scale(50_000, 10_000, 10_000, (3_000, 10_000, 50_000)),
    "canonical": Scale(0, 0, 10_000),
}
"""``small``: at most 30 minutes per row on two cores. ``full``: the published sizes, which need a GPU. ``canonical``:
for methods without training, which check the protocol on all published test scenes, at either scale."""

NUM_SEEDS, FEW_SCENES = 3, 200
"""Number of seeds for rows with at most :data:`FEW_SCENES` training scenes (others have one seed), and that bound."""


@dataclass(frozen=True, slots=True)
class Training:
    """Training of a recipe, by a number of epochs, which is repeatable, and not by minutes.

    Attributes:
        recipe: name of the recipe.
        passes: system -> number of epochs on the scenes of the tables.
        most: largest factor by which the number of epochs grows with fewer scenes, where an epoch has fewer steps.
        rates: system -> learning rate, where it differs from that of the recipe.
        silent: systems in which edge type 0 means "no relation", so that it sends no messages.
    """

    recipe: str
    passes: Mapping[str, int]
    most: int
    rates: Mapping[str, float] = field(default_factory=dict)
    silent: tuple[str, ...] = ()

    def settings(self, system: str, share: float) -> Recipe:
        """The recipe for a ``share`` of the training scenes of the tables.

        Raises:
            ValueError: there is no such recipe.
        """
        recipe = recipe_named(self.recipe)
        num_passes = round(self.passes[system] * min(self.most, 1 / share))
        rate = self.rates.get(system, recipe.training.learning_rate)
        network = replace(recipe.model.network, silent_first=system in self.silent)
        training = replace(recipe.training, num_passes=num_passes, learning_rate=rate)
        return replace(recipe, model=replace(recipe.model, network=network), training=training)


@dataclass(frozen=True, slots=True)
class Method:
    """Method of a row: a recipe with the readings of its trained model, or a function that computes all figures.

    Attributes:
        trainings: scale -> training; empty: a function.
        readings: readings of the trained model (:mod:`bouncegrad.reproduce.readings`).
        function: a name in :data:`bouncegrad.reproduce.functions.FUNCTIONS`.
        passes: scale -> system -> number of epochs, for a function that trains.
        scale: the only scale of this method; None: any.
        fewer: scale -> system -> additional numbers of training scenes along figure 3, below those of the scale.
    """

    trainings: Mapping[str, Training] = field(default_factory=dict)
    readings: tuple[str, ...] = ()
    function: str | None = None
    passes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    scale: str | None = None
    fewer: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)


def _passes(springs5: int, charged5: int) -> dict[str, int]:
    return {"springs5": springs5, "charged5": charged5}


def _nri(recipe: str, passes: Mapping[str, int], readings: tuple[str, ...], silent: tuple[str, ...]) -> Method:
    full = _passes(500, 500)
    trainings = {"small": Training(recipe, passes, 6, silent=silent), "full": Training(recipe, full, 6, silent=silent)}
    return Method(trainings, readings)


def _lstm(function: str, passes: int) -> Method:
    return Method(function=function, passes={"small": _passes(passes, passes), "full": _passes(500, 500)})


METHODS: dict[str, Method] = {
    "static": Method(function="static", scale="canonical"),
    "correlation": Method(function="correlation"),
    "lstm-single": _lstm("lstm_single", 30),
    "lstm-joint": _lstm("lstm_joint", 8),
    "nri-full": _nri("nri-full", _passes(40, 40), ("full",), ()),
    "nri": _nri("nri", _passes(80, 60), ("proposal",), ("springs5",)),
    "nri-true": _nri("nri-true", _passes(50, 50), ("truth", "proposal"), ("springs5",)),
    "alet2019": Method(
        {
            "small": Training("alet2019-small", _passes(150, 100), 6),
            "full": Training("alet2019", _passes(2000, 2000), 6, {"springs5": 0.01, "charged5": 1e-4}),
        },
        ("none", "proposal"),
    ),
    "fast": Method(
        {"small": Training("fast", _passes(40, 110), 4), "full": Training("fast", _passes(10, 20), 4)},
        ("auto", "none", "symmetric", "classes"),
        fewer={"small": {"springs5": (10, 20, 30), "charged5": (20, 30)}},
    ),
    "fast-forecast": Method(
        {
            "small": Training("fast-forecast", _passes(40, 110), 4),
            "full": Training("fast-forecast", _passes(10, 20), 4),
        },
        ("auto",),
    ),
}
"""Name -> method. The learning rates at full scale are those of the released scripts of Alet et al. (2019)."""


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One method with one seed on a number of scenes of one system: a line of a table, or a point of figure 3.

    Attributes:
        method: a name in :data:`METHODS`.
        system: ``springs5`` or ``charged5``.
        scale: a name in :data:`SCALES`.
        num_scenes: number of training scenes, the first ones of the canonical set.
        seed: seed of all randomness.
    """

    method: str
    system: str
    scale: str
    num_scenes: int
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of the files of the row."""
        return f"{self.system}_{self.method}_{self.num_scenes}_seed{self.seed}"

    @property
    def scenes(self) -> dict[str, int]:
        """Split -> number of scenes."""
        return SCALES[self.scale].counts(self.num_scenes)

    def recipe(self) -> Recipe | None:
        """The recipe that is trained; None for a method that is a function.

        Raises:
            ValueError: there is no such recipe.
        """
        method = METHODS[self.method]
        if method.function:
            return None
        return method.trainings[self.scale].settings(self.system, self.num_scenes / SCALES[self.scale].num_train)

    @property
    def num_passes(self) -> int | None:
        """Number of epochs; None where nothing is trained."""
        method, recipe = METHODS[self.method], self.recipe()
        return recipe.training.num_passes if recipe else method.passes.get(self.scale, {}).get(self.system)

    def settings(self) -> dict[str, Any]:
        """All settings that determine the result, besides the name of the row."""
        method, recipe = METHODS[self.method], self.recipe()
        if recipe is None:
            return {"function": method.function} | ({"passes": self.num_passes} if self.num_passes else {})
        return {"recipe": asdict(recipe), "readings": list(method.readings)}


def table_row(method: str, system: str, scale: str, seed: int = 0) -> Row:
    """The row of a method in the tables at a scale."""
    name = METHODS[method].scale or scale
    return Row(method, system, name, SCALES[name].num_train, seed)


def curve_rows(method: str, system: str, scale: str) -> list[Row]:
    """The rows of a method in figure 3 at a scale, from few scenes to many."""
    fewer = METHODS[method].fewer.get(scale, {}).get(system, ())
    return [
        Row(method, system, scale, num_scenes, seed)
        for num_scenes in (*fewer, *SCALES[scale].sizes)
        for seed in range(NUM_SEEDS if num_scenes <= FEW_SCENES else 1)
    ]
