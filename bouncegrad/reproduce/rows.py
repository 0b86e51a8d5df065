"""Which rows there are: how each is done, for how long, and how it is read. To add a method, add it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bouncegrad.recipes import Recipe, recipe_named

SYSTEMS = ("springs5", "charged5")


@dataclass(frozen=True, slots=True)
class Scale:
    """How many canonical scenes there are to learn from, to choose by and to be scored on.

    Attributes:
        num_train: scenes to learn from in the tables.
        num_valid: held-out scenes, unlabelled, at most.
        num_test: scenes that figures are about.
        sizes: scenes to learn from along figure 3, the last of them that of the tables.
    """

    num_train: int
    num_valid: int
    num_test: int
    sizes: tuple[int, ...] = ()

    def counts(self, num_scenes: int) -> dict[str, int]:
        """Split -> scenes, for a row that learns from ``num_scenes``.

        Held-out scenes are data as well: there are at most a quarter as many of them.
        """
        return {"train": num_scenes, "valid": min(self.num_valid, num_scenes // 4), "test": self.num_test}


SCALES = {
    "small": Scale(1_000, 200, 300, (50, 100, 200, 500, 1_000)),
    "full": Scale(50_000, 10_000, 10_000, (3_000, 10_000, 50_000)),
    "canonical": Scale(0, 0, 10_000),
}
"""``small``: 30 minutes a row at most on two cores. ``full``: the published sizes, which want a GPU. ``canonical``: for
what learns nothing and proves the protocol on all published test scenes, at either scale."""

NUM_SEEDS, FEW_SCENES = 3, 200
"""Seeds of a row that learns from few scenes, and how many are few; others have one."""


@dataclass(frozen=True, slots=True)
class Training:
    """How long a recipe is trained: by passes, which are repeatable, and not by minutes, which are not.

    Attributes:
        recipe: its name; looked up when a row is done.
        passes: system -> passes over the scenes of the tables.
        most: times as many passes at most over fewer scenes, where each holds fewer steps.
        rates: system -> learning rate, where it is not the recipe's.
        silent: systems of which kind 0 means that there is no relation, so that it sends nothing.
    """

    recipe: str
    passes: Mapping[str, int]
    most: int
    rates: Mapping[str, float] = field(default_factory=dict)
    silent: tuple[str, ...] = ()

    def settings(self, system: str, share: float) -> Recipe:
        """The recipe for a ``share`` of the scenes of the tables.

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
    """How a row is done: a recipe that is trained and then read, or a function that does all by itself.

    Attributes:
        trainings: scale -> training; empty: a function.
        readings: how the trained model is read (:mod:`bouncegrad.reproduce.readings`).
        function: a name in :data:`bouncegrad.reproduce.functions.FUNCTIONS`.
        passes: scale -> system -> passes over the scenes, for a function that trains.
        scale: the only scale at which this is done; None: at any.
        fewer: scale -> system -> scenes to learn from along figure 3, before those of the scale.
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
"""Name -> how it is done. The learning rates at full scale are those of the released scripts of Alet et al. (2019)."""


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One method on so many scenes of one system, with one seed: a line of a table and a point of figure 3.

    Attributes:
        method: a name in :data:`METHODS`.
        system: ``springs5`` or ``charged5``.
        scale: a name in :data:`SCALES`.
        num_scenes: scenes to learn from, the first ones of the canonical set.
        seed: of all randomness.
    """

    method: str
    system: str
    scale: str
    num_scenes: int
    seed: int = 0

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.system}_{self.method}_{self.num_scenes}_seed{self.seed}"

    @property
    def scenes(self) -> dict[str, int]:
        """Split -> number of scenes."""
        return SCALES[self.scale].counts(self.num_scenes)

    def recipe(self) -> Recipe | None:
        """What is trained; None where a function does it all.

        Raises:
            ValueError: there is no such recipe.
        """
        method = METHODS[self.method]
        if method.function:
            return None
        return method.trainings[self.scale].settings(self.system, self.num_scenes / SCALES[self.scale].num_train)

    @property
    def num_passes(self) -> int | None:
        """Over the training scenes; None where nothing is trained."""
        method, recipe = METHODS[self.method], self.recipe()
        return recipe.training.num_passes if recipe else method.passes.get(self.scale, {}).get(self.system)

    def settings(self) -> dict[str, Any]:
        """All that decides what the row will be, beside its name."""
        method, recipe = METHODS[self.method], self.recipe()
        if recipe is None:
            return {"function": method.function} | ({"passes": self.num_passes} if self.num_passes else {})
        return {"recipe": asdict(recipe), "readings": list(method.readings)}


def table_row(method: str, system: str, scale: str, seed: int = 0) -> Row:
    """The row of the tables at a scale."""
    name = METHODS[method].scale or scale
    return Row(method, system, name, SCALES[name].num_train, seed)


def curve_rows(method: str, system: str, scale: str) -> list[Row]:
    """The points of figure 3 at a scale, from few scenes to many."""
    fewer = METHODS[method].fewer.get(scale, {}).get(system, ())
    return [
        Row(method, system, scale, num_scenes, seed)
        for num_scenes in (*fewer, *SCALES[scale].sizes)
        for seed in range(NUM_SEEDS if num_scenes <= FEW_SCENES else 1)
    ]
