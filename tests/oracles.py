"""What the package computes, to the bit: ``python tests/oracles.py OUT.json [--against BEFORE.json]``.

Small trainings of every kind, every way to read and to judge scenes, and what the command says, each as one entry of a
flat JSON object: a text where it is short, else a digest of the bytes. Two files that were written on one machine,
before and after a change, are the same if the change left every figure as it was; ``--against`` names what differs.

Only what is public is used, so that the files behind it may move. Wall-clock times are left out, and of references to
names in help texts only the last word is kept. Takes about a minute on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import load_file

import bouncegrad
from bouncegrad.cli import main as command
from bouncegrad.functions import (
    FUNCTION_RECIPES,
    PARTS,
    PointsConfig,
    fit_functions,
    infer_functions,
    recovered_functions,
    score_functions,
    sums_of_functions,
)
from bouncegrad.trust import agreement, describe_kinds, misfit, null_test

Entries = dict[str, str]

TIMES = {"seconds", "cpu_seconds", "machine"}
"""Keys of JSON objects that no two runs share."""

VERBS = ("simulate", "table", "fit", "infer", "predict", "evaluate", "reproduce", "hidden", "trust")

SMALL = {
    "training.num_passes": 4,
    "training.batch_size": 8,
    "model.network.hidden": 8,
    "training.proposer.hidden": 8,
}
NOISE = {"model.noise.hidden": 4}
FORECASTER = {
    "model.network.skip": False,  # else the modules drift so little that no forecaster is better
    "forecaster.num_passes": 8,
    "forecaster.enough": 0,
    "forecaster.hidden": 16,
    "forecaster.learning_rate": 0.01,
}
TWO_ROUNDS = {
    "training.num_passes": 2,
    "model.network.message_steps": 2,
    "training.bounce.search": "gibbs",
    "training.bounce.heat": "steered",
    "training.horizon": 2,
    "training.stride": 8,
}
BOTH = {"training.proposer.sees": "both", "training.proposer.encoder": "cnn", "training.bounce.corrected": True}
TRAININGS: dict[str, tuple[str, str, dict[str, object]]] = {
    "fast": ("springs4", "fast", SMALL | NOISE),
    "fast-forecast": ("springs4", "fast-forecast", SMALL | NOISE | FORECASTER),
    "leader": ("cars.npz", "leader", SMALL | NOISE | {"training.num_passes": 2}),
    "alet2019-small": ("springs4", "alet2019-small", SMALL),
    "nri": ("springs4", "nri", SMALL),
    "nri-true": ("springs4", "nri-true", SMALL),
    "nri-full": ("springs4", "nri-full", SMALL),
    "polish": ("springs4", "fast", SMALL | NOISE | {"polish.num_passes": 2, "polish.tolerance": 100}),
    "two rounds": ("springs4", "fast", SMALL | NOISE | TWO_ROUNDS),
    "both encoders": ("springs4", "alet2019-small", SMALL | BOTH),
    "node kinds": ("springs4", "fast", SMALL | NOISE | {"model.network.num_node_kinds": 2, "training.starts": 0.5}),
    "charged": ("charged4", "fast", SMALL | NOISE),
}
"""Name -> data, recipe and settings of a run folder."""

KINDS = {"kinds auto": "auto", "kinds 3": "3"}
"""Name -> how many kinds a training begins with, of which some are merged."""


# Digests


def digest_of(arrays: Mapping[str, Any]) -> str:
    """Of names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = numpy.ascontiguousarray(numpy.asarray(arrays[name]))
        found.update(f"{name} {array.dtype} {array.shape} ".encode())
        found.update(array.tobytes() if array.dtype != object else repr(array.tolist()).encode())
    return found.hexdigest()


def digest_of_file(path: Path) -> str:
    if path.suffix == ".npz":
        with numpy.load(path) as arrays:
            return digest_of(dict(arrays))
    if path.suffix == ".npy":
        return digest_of({path.name: numpy.load(path)})
    if path.suffix == ".safetensors":
        return digest_of({name: value.numpy() for name, value in load_file(path).items()})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def timeless(value: Any) -> Any:
    """JSON without what no two runs share."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in TIMES}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def timeless_text(text: str) -> str:
    return json.dumps(timeless(json.loads(text)))


# The command


def said(*words: object) -> str:
    """What a command prints, what it warns of, and what it says where it refuses."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        status = command([str(word) for word in words])
    warned = [f"warning: {each.message}" for each in told if each.category is UserWarning]
    return "\n".join([f"status {status}", out.getvalue(), *warned, err.getvalue() if status else ""])


def told(*words: object) -> str:
    """The same of a command that has to work."""
    found = said(*words)
    if not found.startswith("status 0\n"):
        raise RuntimeError(f"{' '.join(map(str, words))}: {found}")
    return found


def helped(*words: str) -> str:
    """A help text with every paragraph in one line, names of the package without the files that they lie in."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        command([*words, "--help"])
    return re.sub(r"\bbouncegrad(?:\.\w+)*\.(\w+)", r"\1", out.getvalue())


def helps() -> Entries:
    found = {f"help/{verb}": helped(verb) for verb in VERBS} | {"help": helped()}
    for recipe in sorted(bouncegrad.RECIPES):
        found[f"help/fit {recipe}"] = digest_of({"text": helped("fit", "--recipe", recipe)})
    return found


def words_of(settings: Mapping[str, object]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--settings.{name}", str(value))]


def fit_words(name: str, data: str, recipe: str, settings: Mapping[str, object], *more: str) -> list[str]:
    return ["fit", "--data", data, "--out", name, "--recipe", recipe, "--quiet", *more, *words_of(settings)]


class Interruption:
    """Stops the program, as a user would, when it is about to write to a log for the nth time; does so once.

    What opens files is watched from outside, so that it does not matter who writes the log.
    """

    def __init__(self) -> None:
        self.left = 0
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.left and event == "open" and arguments[1] == "a" and str(arguments[0]).endswith("log.jsonl"):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


# Data


def write_data() -> Entries:
    """Make all scenes; returns digests of those that are simulated."""
    counts = ["--train", "24", "--valid", "6", "--test", "5"]
    texts = {
        "springs4": told("simulate", "springs", "--entities", 4, *counts, "--out", "springs4"),
        "charged4": told("simulate", "charged", "--entities", 4, *counts, "--out", "charged4"),
        "springs5": told(
            "simulate", "springs", "--train", 0, "--valid", 2, "--test", 6, "--out", "springs5", "--seed", 1
        ),
        "canonical5": told(
            "simulate", "springs", "--train", 1, "--valid", 0, "--test", 1, "--canonical", "--out", "canonical5"
        ),
        "directed16": told(
            *("simulate", "springs", "--entities", 16, "--train", 0, "--valid", 0, "--test", 2, "--directed"),
            *("--strengths", 0, 1, 2, "--density", 0.2, "--noise", 0.01, "--out", "directed16"),
        ),
    }
    write_cars(Path("cars.npz"))
    shorten(Path("directed16"), Path("sixteen.npz"), num_times=15)
    found = {f"simulate/{name}/said": text for name, text in texts.items()}
    for name in texts:
        for path in sorted(Path(name).iterdir()):
            found[f"simulate/{name}/{path.name}"] = digest_of_file(path)
    return found


def shorten(folder: Path, place: Path, num_times: int) -> None:
    """The first samples of the split ``test``."""
    arrays = {name: numpy.load(next(folder.glob(f"{name}_test_*.npy"))) for name in ("loc", "vel", "edges")}
    numpy.savez(place, loc=arrays["loc"][:, :num_times], vel=arrays["vel"][:, :num_times], edges=arrays["edges"])


def write_cars(place: Path, num_scenes: int = 12, num_times: int = 40, num_cars: int = 4) -> None:
    """Speeds of cars in single file, in random order, each of which closes the gap to the one before; with gaps."""
    random = numpy.random.default_rng(0)
    states = numpy.zeros((num_scenes, num_times, num_cars, 1))
    mask = numpy.ones((num_scenes, num_times, num_cars), dtype=bool)
    edges = numpy.zeros((num_scenes, num_cars, num_cars))
    exogenous = numpy.zeros((num_scenes, num_cars), dtype=bool)
    for scene in range(num_scenes):
        order = random.permutation(num_cars)
        speeds = numpy.full((num_times, num_cars), 10.0)
        kicks = random.normal(size=(num_times, num_cars))
        for now in range(2, num_times):
            pull = 0.35 * (speeds[now - 2, :-1] - speeds[now - 1, 1:])
            speeds[now, 1:] = speeds[now - 1, 1:] + pull + 0.06 * kicks[now, 1:]
            speeds[now, 0] = speeds[now - 1, 0] + 0.05 * (10 - speeds[now - 1, 0]) + 0.3 * kicks[now, 0]
        states[scene, :, order, 0] = speeds.T
        edges[scene, order[1:], order[:-1]] = 1
        exogenous[scene, order[0]] = True
        mask[scene, 12:15, order[2]] = scene % 3 > 0
    numpy.savez(place, states=states, mask=mask, edges=edges, exogenous=exogenous)


# Trainings


def run_folder(name: str, folder: Path) -> Entries:
    """Everything that a run leaves, without times: each line of each log, weights, settings and figures."""
    found = {f"{name}/config.yaml": digest_of_file(folder / "config.yaml")}
    for log in sorted(folder.rglob("log.jsonl")):
        for number, line in enumerate(log.read_text().splitlines(), 1):
            found[f"{name}/{log.relative_to(folder)}/{number:02}"] = timeless_text(line)
    for weights in sorted(folder.rglob("*.safetensors")):
        found[f"{name}/{weights.relative_to(folder)}"] = digest_of_file(weights)
    found[f"{name}/model/config.json"] = (folder / "model" / "config.json").read_text()
    if (folder / "summary.json").exists():
        found[f"{name}/summary.json"] = timeless_text((folder / "summary.json").read_text())
    return found


def trainings() -> Entries:
    found: Entries = {}
    for name, (data, recipe, settings) in TRAININGS.items():
        found[f"fit/{name}/said"] = told(*fit_words(name, data, recipe, settings))
        found |= run_folder(f"fit/{name}", Path(name))
    for name, kinds in KINDS.items():
        settings = SMALL | NOISE | {"training.num_passes": 8}
        found[f"fit/{name}/said"] = told(*fit_words(name, "springs4", "fast", settings, "--kinds", kinds))
        found |= run_folder(f"fit/{name}", Path(name))
    check_trainings(found)
    return found


def check_trainings(found: Entries) -> None:
    """See that the trainings did what they are here for."""
    if '"forecaster": null' in found["fit/fast-forecast/model/config.json"]:
        raise RuntimeError("no forecaster was kept")
    if found["fit/polish/model/model.safetensors"] == found["fit/fast/model/model.safetensors"]:
        raise RuntimeError("the polish changed nothing")
    for name in KINDS:
        if "is merged into" not in found[f"fit/{name}/said"]:
            raise RuntimeError("no kinds were merged")


def interrupted() -> Entries:
    """A run that is stopped in its third pass and again while its forecaster learns; and one of functions."""
    stop, words = Interruption(), fit_words("stopped", *TRAININGS["fast-forecast"])
    found = {}
    for number, opened in enumerate((3, 4)):
        stop.left = opened
        found[f"resume/said {number}"] = said(*words)
        if stop.left:
            raise RuntimeError(f"the run was not stopped: {found}")
    found["resume/said 2"] = told(*words)
    parts, whole = run_folder("", Path("stopped")), run_folder("", Path("fast-forecast"))
    if differing := differences(whole, parts):
        raise RuntimeError(f"a run that was stopped ended otherwise: {differing}")
    return found | {f"resume{name}": value for name, value in parts.items()}


# Functions


def functions() -> Entries:
    found: Entries = {}
    splits = sums_of_functions(0, PointsConfig(20))
    for name in ("bouncegrad", "moma", "bouncegrad-exact", "bouncegrad-learned", "maml"):
        recipe = FUNCTION_RECIPES[name]
        proposer = replace(recipe.training.proposer, hidden=6)
        library = replace(recipe.model, num_modules=min(4, recipe.model.num_modules), hidden=(6,))
        small = replace(recipe, model=library, training=replace(recipe.training, num_passes=4, proposer=proposer))
        folder = Path(f"functions-{name}")
        model = fit_functions(splits.train, exported("Sum")(2), small, held_out=splits.valid, folder=folder)
        for number, line in enumerate((folder / "log.jsonl").read_text().splitlines(), 1):
            found[f"functions/{name}/log.jsonl/{number:02}"] = timeless_text(line)
        found[f"functions/{name}/weights"] = digest_of(numbers(model.state_dict()))
        found[f"functions/{name}/checkpoint"] = digest_of_file(folder / "checkpoint.safetensors")
        scored = score_functions(model, splits.test)
        found[f"functions/{name}/error"] = repr(scored.error)
        found[f"functions/{name}/score"] = digest_of(fields_of(scored, "errors", "structures", "predictions"))
        if name == "bouncegrad-learned":
            beliefs = infer_functions(model, splits.test, "proposal")
            found[f"functions/{name}/proposal"] = digest_of({"structures": beliefs.numpy()})
        if model.config.num_modules == 4:
            parts = {part: PARTS[part] for part in ("abs", "sin", "tanh")}
            inputs = torch.linspace(-1, 1, 21)[:, None]
            found[f"functions/{name}/recovered"] = repr(recovered_functions(model, parts, inputs))
    found["functions/tasks"] = digest_of(fields_of(splits.train, "inputs", "outputs", "given", "asked"))
    return found


def exported(name: str) -> Any:
    """A class of the package, wherever it lies."""
    for place in sorted(each for each in sys.modules if each.split(".")[0] == "bouncegrad"):
        value = vars(sys.modules[place]).get(name)
        if isinstance(value, type) and value.__name__ == name:
            return value
    raise LookupError(f"bouncegrad has no class {name}")


def numbers(tensors: Mapping[str, torch.Tensor]) -> dict[str, numpy.ndarray]:
    return {name: value.detach().numpy() for name, value in tensors.items()}


def fields_of(record: object, *names: str) -> dict[str, Any]:
    return numbers({name: getattr(record, name) for name in names})


# Reading, predicting, judging


def written(out: str, *words: object) -> Entries:
    """What a command says and writes; a text alone where it refuses."""
    Path(out).unlink(missing_ok=True)
    found = {"said": said(*words, "--out", out)}
    return found | ({"arrays": digest_of_file(Path(out))} if Path(out).exists() else {})


def under(name: str, entries: Mapping[str, str]) -> Entries:
    return {f"{name}/{key}": value for key, value in entries.items()}


def readings() -> Entries:
    found: Entries = {}
    priors = re.findall(r"--prior \{([^}]*)\}", helped("infer"))[0].split(",")
    for mode in ("search", "proposal", "both"):
        for prior in priors:
            words = ["infer", "--model", "alet2019-small", "--data", "springs4", "--mode", mode, "--prior", prior]
            found |= under(f"infer/{mode} {prior}", written("found.npz", *words))
    for prior in priors:
        for name, data in {"fast": "springs4", "leader": "cars.npz"}.items():
            words = ["infer", "--model", name, "--data", data, "--prior", prior]
            found |= under(f"infer/{name} {prior}", written("found.npz", *words))
    for prior in ("none", "symmetric"):
        words = ["infer", "--model", "fast", "--data", "sixteen.npz", "--prior", prior]
        found |= under(f"infer/sixteen {prior}", written("found.npz", *words))
    for name in ("two rounds", "nri", "both encoders", "node kinds", "kinds 3"):
        words = ["infer", "--model", name, "--data", "springs4"]
        found |= under(f"infer/{name}", written("found.npz", *words))
    words = ["infer", "--model", "springs5", "--data", "springs5", "--picture", "graphs.png"]
    found |= under("infer/csv", written("found.csv", *words))
    found["infer/picture"] = digest_of_file(Path("graphs.png"))
    return found


def predictions() -> Entries:
    found: Entries = {}
    for name, data in {"fast": "springs4", "fast-forecast": "springs4", "leader": "cars.npz"}.items():
        words = ["predict", "--model", name, "--data", data]
        found |= under(f"predict/{name}", written("future.npz", *words, "--steps", 6))
        found |= under(f"predict/{name} early", written("future.npz", *words, "--start", 11, "--steps", 1))
    return found


def judgements() -> Entries:
    found: Entries = {}
    for name, mode in {
        "fast": "search",
        "fast-forecast": "search",
        "alet2019-small": "both",
        "nri": "proposal",
    }.items():
        words = ["evaluate", "--model", name, "--data", "springs4", "--mode", mode]
        found[f"evaluate/{name}/json"] = figures_of(*words, "--json")
        found[f"evaluate/{name}/text"] = re.sub(r"\d+(\.\d+)? s\b", "TIME", told(*words))
    words = ["evaluate", "--model", "springs5", "--data", "springs5", "--prior", "classes", "--json"]
    found["evaluate/springs5"] = figures_of(*words, "--picture", "tracks.png", "--reliability", "curve.png")
    for name in ("tracks", "curve"):
        found[f"evaluate/{name}.png"] = digest_of_file(Path(f"{name}.png"))
    return found


def figures_of(*words: object) -> str:
    """The JSON object that a command prints, without times."""
    status, text = told(*words).split("\n", 1)
    return f"{status}\n{timeless_text(text)}"


def hidden_and_trust() -> Entries:
    reading = ["--model", "springs5", "--data", "springs5"]
    found = {"hidden/covered": figures_of("hidden", *reading, "--hide", 0, "--scenes", 2, "--calibration", 0, "--json")}
    number = ["--number", 1, "--scenes", 1, "--calibration", 1]
    found["hidden/sought"] = digest_of({"text": figures_of("hidden", *reading, *number, "--json")})
    shuffles = ["--scenes", 4, "--shuffles", 19, "--quiet"]
    found["trust/json"] = figures_of("trust", *reading, *shuffles, "--json", "--picture", "kinds.png")
    found["trust/picture"] = digest_of_file(Path("kinds.png"))
    found["trust/text"] = told("trust", "--model", "fast", "--data", "springs4", *shuffles)
    return found


def tables() -> Entries:
    random, rows = numpy.random.default_rng(3), []
    for scene in ("a", "b"):
        for agent in range(3):
            places = random.normal(size=(12, 2)).cumsum(0)
            rows += [[scene, now, f"car{agent}", agent, *place] for now, place in enumerate(places.tolist())]
    rows = [row for number, row in enumerate(rows) if number % 17 != 5]
    write_rows(Path("tracks.csv"), ["scene", "time", "agent", "position", "x", "y"], rows)
    known = [["a", "car1", "car0", 1], ["a", "car2", "car1", 1], ["b", "car0", "car2", 1]]
    write_rows(Path("known.csv"), ["scene", "receiver", "sender", "relation"], known)
    more = ["--exogenous", "position=min", "--interpolate", 2, "--relations", "known.csv"]
    coarse = ["--time-step", 2, "--resample", "mean", "--velocities", "none", "--features", "x", "y"]
    found = under("table/guessed", written("tracks.npz", "table", "tracks.csv"))
    found |= under("table/more", written("tracks.npz", "table", "tracks.csv", *more))
    return found | under("table/coarse", written("tracks.npz", "table", "tracks.csv", *coarse))


def write_rows(place: Path, columns: list[str], rows: Iterable[list[Any]]) -> None:
    with place.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def in_python() -> Entries:
    """What has no verb."""
    model, scenes = bouncegrad.load_model("fast"), bouncegrad.read_scenes("springs4", "test")
    posterior, further = bouncegrad.infer(model, scenes), bouncegrad.infer(model, scenes, horizon=2)
    ready = bouncegrad.RelationalModel.from_pretrained("springs5")
    five = bouncegrad.read_scenes("springs5", "test")
    known = ready.infer(five)
    found = {
        "python/further": digest_of(fields_of(further, "structures", "losses", "marginals", "log_evidence")),
        "python/score": json.dumps(timeless(bouncegrad.score(model, scenes).to_dict())),
        "python/adjacency": digest_of({"adjacency": numpy.asarray(bouncegrad.adjacency(known, five, 0))}),
        "python/table": hashlib.sha256(bouncegrad.relation_table(known, five).write_csv().encode()).hexdigest(),
        "python/networkx": repr(sorted(bouncegrad.to_networkx(known, five, 0).edges(data=True))),
        "python/predict": digest_of({"states": ready.predict(five, num_steps=5).numpy()}),
        "python/agreement": json.dumps(agreement([posterior, further], scenes).to_dict()),
        "python/misfit": json.dumps(misfit(model, scenes, posterior).to_dict()),
        "python/null": json.dumps(null_test(model, scenes, 19, 1).to_dict()),
        "python/kinds": json.dumps([each.to_dict() for each in describe_kinds(model, scenes, posterior)]),
        "python/names": " ".join(sorted(bouncegrad.__all__)),
        "python/recipes": json.dumps({name: asdict(recipe) for name, recipe in bouncegrad.RECIPES.items()}),
        "python/function recipes": json.dumps({name: asdict(recipe) for name, recipe in FUNCTION_RECIPES.items()}),
    }
    trained = bouncegrad.fit(five, small_recipe(), seed=2)
    return found | {"python/fit": digest_of(numbers(trained.state_dict()))}


def small_recipe() -> bouncegrad.Recipe:
    recipe = bouncegrad.RECIPES["fast"]
    network = replace(recipe.model.network, hidden=8)
    training = replace(recipe.training, num_passes=2, batch_size=3)
    return replace(recipe, model=replace(recipe.model, network=network), training=training)


# All of it

PARTS_OF_IT: tuple[Callable[[], Entries], ...] = (
    helps,
    write_data,
    trainings,
    interrupted,
    functions,
    readings,
    predictions,
    judgements,
    hidden_and_trust,
    tables,
    in_python,
)
"""In this order: the later ones read what the earlier ones leave."""


@contextlib.contextmanager
def empty_folder() -> Iterator[None]:
    """Work in a temporary folder, so that all places are said in the same words."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def everything() -> Entries:
    found: Entries = {}
    with empty_folder():
        for part in PARTS_OF_IT:
            begin = time.process_time()
            found |= part()
            print(f"{part.__name__}: {time.process_time() - begin:.1f} CPU seconds", file=sys.stderr)
    return dict(sorted(found.items()))


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Names of the entries that one has and the other has not, or has otherwise."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def compared(before: Mapping[str, str], after: Mapping[str, str]) -> int:
    """Print what differs; returns the exit status."""
    differing = differences(before, after)
    for name in differing:
        print(f"{name}\n  before: {before.get(name, 'missing')!r}\n  after:  {after.get(name, 'missing')!r}")
    if differing:
        print(f"{len(differing)} of {len(before.keys() | after.keys())} entries differ")
        return 1
    print(f"all {len(after)} entries are the same")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--against", type=Path, help="JSON file to compare with")
    options = parser.parse_args()
    before = json.loads(options.against.read_text()) if options.against else None
    os.environ["COLUMNS"] = "100000"  # no line of a help text is broken: where it breaks says nothing
    torch.set_num_threads(1)
    after = everything()
    options.out.write_text(json.dumps(after, indent=1) + "\n")
    return 0 if before is None else compared(before, after)


if __name__ == "__main__":
    sys.exit(main())
