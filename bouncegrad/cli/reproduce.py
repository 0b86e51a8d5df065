"""The verb ``reproduce``: do the rows of the tables of the literature."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from bouncegrad.cli.options import Verb, add_device, add_quiet
from bouncegrad.cli.progress import fit_progress
from bouncegrad.reproduce import TARGETS, Places, Request, reproduce, rewrite_results
from bouncegrad.reproduce.rows import SYSTEMS


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("target", choices=[*TARGETS, "results"], help="table 1: predictions, 2: relations; figure 3")
    parser.add_argument(
        "--scale",
        choices=["small", "full"],
        default="small",
        help="small: 1,000 scenes, up to 30 minutes a row; full: the published 50,000, which want a GPU",
    )
    parser.add_argument(
        "--system", choices=SYSTEMS, nargs="+", default=list(SYSTEMS), help="which scenes to learn from"
    )
    parser.add_argument("--rows", type=str, nargs="+", help="which methods, by name (default: all of the table)")
    parser.add_argument("--out", type=str, default="experiments/results/reproduce", help="folder of results to write")
    parser.add_argument("--work", type=str, default="runs/reproduce", help="folder of scenes and runs, to resume from")
    parser.add_argument("--document", type=str, default="RESULTS.md", help="what the target results writes")
    add_device(parser)
    parser.add_argument("--again", action="store_true", help="forget what was done of these rows and do them again")
    add_quiet(parser, "no progress of single trainings")


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
    summary="do the rows of the tables of the literature",
    description=(
        "Do the missing rows of a table of the literature and write it with the published values beside ours.\n"
        "A row that is done is kept, one that was interrupted goes on. Scenes are those of the published data sets.\n"
        "The target results only writes RESULTS.md again, from all rows that are done.\n\n"
        "Examples:\n"
        "  bouncegrad reproduce table1 --system springs5 --rows static fast\n"
        "  bouncegrad reproduce figure3\n"
        "  bouncegrad reproduce results"
    ),
    add_options=_add_options,
    run=_run,
)
