"""The verb ``reproduce``: compute the rows of published tables."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from bouncegrad.cli.options import Verb, add_device, add_quiet
from bouncegrad.cli.progress import fit_progress
from bouncegrad.reproduce import TARGETS, Places, Request, reproduce, rewrite_results
from bouncegrad.reproduce.rows import SYSTEMS


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "target",
        choices=[*TARGETS, "results"],
        help="table1: prediction errors; table2: relation accuracy; figure3: accuracy against training scenes; "
        "results: the document of all results",
    )
    parser.add_argument(
        "--scale",
        choices=["small", "full"],
        default="small",
        help="small: 1,000 training scenes, up to 30 minutes per row; full: the published 50,000, which need a GPU",
    )
    parser.add_argument("--system", choices=SYSTEMS, nargs="+", default=list(SYSTEMS), help="simulated systems")
    parser.add_argument("--rows", type=str, nargs="+", help="names of methods (default: all of the table)")
    parser.add_argument("--out", type=str, default="experiments/results/reproduce", help="folder of results to write")
    parser.add_argument(
        "--work", type=str, default="runs/reproduce", help="folder of scenes and run folders, for resuming"
    )
    parser.add_argument("--document", type=str, default="RESULTS.md", help="file that the target results writes")
    add_device(parser)
    parser.add_argument(
        "--again", action="store_true", help="discard existing results of these rows and compute them again"
    )
    add_quiet(parser, "no progress of trainings")


def _run(options: Namespace) -> None:
    if options.target == "results":
        print(f"{rewrite_results(options.out, options.document)}: all results in {options.out}")
        return
    request = Request(options.target, options.scale, tuple(options.system), tuple(options.rows or ()), options.again)
    places = Places(Path(options.out), Path(options.work), options.device)
    for line in reproduce(request, places, lambda: fit_progress(quiet=options.quiet)):
        print(line, flush=True)


VERB = Verb(
    name="reproduce",
    summary="compute the rows of published tables",
    description=(
        "Compute the missing rows of a published table and write it, with the published values next to ours.\n"
        "Finished rows are kept, an interrupted row resumes. Scenes are those of the published data sets.\n"
        "The target results only rewrites RESULTS.md, from all finished rows.\n\n"
        "Examples:\n"
        "  bouncegrad reproduce table1 --system springs5 --rows static fast\n"
        "  bouncegrad reproduce figure3\n"
        "  bouncegrad reproduce results"
    ),
    add_options=_add_options,
    run=_run,
)
