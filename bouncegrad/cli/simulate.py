"""The verb ``simulate``: simulate scenes with known relations."""

from __future__ import annotations

import sys

from jsonargparse import ArgumentParser, Namespace

from bouncegrad.cli.options import Verb
from bouncegrad.simulate.dataset import SIMULATORS, SimulationRequest, simulate_folder
from bouncegrad.simulate.kuramoto import FEATURES


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("system", choices=list(SIMULATORS), help="simulated system")
    parser.add_argument("--entities", type=int, default=5, help="particles or oscillators in a scene")
    parser.add_argument("--train", type=int, default=1000, help="number of training scenes (49 samples)")
    parser.add_argument("--valid", type=int, default=200, help="number of held-out scenes (49 samples)")
    parser.add_argument("--test", type=int, default=300, help="number of test scenes (99 samples)")
    parser.add_argument("--out", type=str, required=True, help="folder to write")
    parser.add_argument(
        "--canonical",
        action="store_true",
        help="the first scenes of each split of the published data sets (Kipf et al. 2018), with the same random draws",
    )
    parser.add_argument("--strengths", type=float, nargs="+", help="springs: strength of each edge type (default: 0 1)")
    parser.add_argument("--directed", action="store_true", help="springs: draw each direction of a pair independently")
    parser.add_argument(
        "--density", type=float, help="springs: share of pairs that interact (default: all strengths equally likely)"
    )
    parser.add_argument(
        "--features",
        choices=list(FEATURES),
        help="kuramoto: angles (cos, sin, rate; the default), or published (for comparison only: leaks labels)",
    )
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of the observation noise")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (canonical scenes have their own)")


def _run(options: Namespace) -> None:
    request = SimulationRequest(
        system=options.system,
        num_entities=options.entities,
        counts={"train": options.train, "valid": options.valid, "test": options.test},
        canonical=options.canonical,
        strengths=tuple(options.strengths) if options.strengths else None,
        directed=options.directed,
        density=options.density,
        noise=options.noise,
        seed=options.seed,
        features=options.features,
    )
    print(simulate_folder(request, options.out, progress=sys.stderr.isatty()))


VERB = Verb(
    name="simulate",
    summary="simulate scenes with known relations",
    description=(
        "Simulate particles in a box or oscillators and write them, with their relations, in the NRI folder layout.\n\n"
        "Example: scenes with one-sided relations, to test that a model distinguishes directions\n"
        "  bouncegrad simulate springs --directed --entities 4 --train 500 --valid 100 --test 200 --out data/directed4"
    ),
    add_options=_add_options,
    run=_run,
)
