"""Scores and posteriors as plain text for the terminal."""

from __future__ import annotations

from bouncegrad.evaluation.metrics import RelationMatch
from bouncegrad.evaluation.score import Score
from bouncegrad.hidden import HiddenPosterior, HiddenScore


def confusion_table(match: RelationMatch) -> str:
    """Confusion matrix of labels against kinds (edge types); a star marks the label that a kind stands for.

    Example:
        >>> import torch
        >>> from bouncegrad.evaluation.metrics import match_relations
        >>> kinds = torch.tensor([[[0, 1, 1], [0, 0, 1], [0, 1, 0]]])
        >>> truth = torch.tensor([[[0.0, -1, -1], [1, 0, -1], [1, 1, 0]]])
        >>> print(confusion_table(match_relations(kinds, truth)))
        5 of 6 relations right
        relation accuracy 83.33 %
                 kind 0  kind 1
        label -1      0       3*
        label 1       2*      1
    """
    head = ["", *(f"kind {kind} " for kind in range(len(match.relabelling)))]
    rows = [[f"label {label:g}", *_cells(match, row)] for row, label in enumerate(match.labels)]
    table = [head, *rows]
    first, width = max(len(row[0]) for row in table), max(len(cell) for row in table for cell in row[1:]) + 1
    lines = [row[0].ljust(first) + "".join(cell.rjust(width) for cell in row[1:]) for row in table]
    right = f"{match.num_right} of {match.num_pairs} relations right"
    accuracy = f"relation accuracy {100 * match.accuracy:.2f} %"
    return "\n".join([right, accuracy, *(line.rstrip() for line in lines)])


def score_table(score: Score) -> str:
    """All figures of a score as plain text; with labels it has a line "N of M relations right"."""
    lines = [f"{score.num_scenes} scenes, relations inferred from {score.num_observed} samples, {score.seconds:.1f} s"]
    if score.match is not None:
        lines += [confusion_table(score.match), f"calibration error {score.calibration_error:.4f}"]
    errors = "   ".join(f"{step}: {error:.3g}" for step, error in score.mse.items())
    lines.append(f"mean squared error at step   {errors}   ({score.unit})")
    return "\n".join(lines)


def hidden_table(score: HiddenScore) -> str:
    """The score of inferred covered entities as plain text."""
    found = score.to_dict()
    lines = [f"{found['num_scenes']} scenes, {found['num_touching']} of them with a hidden entity that interacts"]
    lines.append(
        f"mean squared error of the tracks {_number(found['hidden_mse'])}, of interacting entities "
        f"{_number(found['hidden_mse_touching'])}   ({score.unit})"
    )
    if found["hidden_relation_accuracy"] is not None:
        lines.append(
            f"relation accuracy: {100 * found['hidden_relation_accuracy']:.2f} % of hidden entities, "
            f"{100 * found['seen_relation_accuracy']:.2f} % of the others"
        )
    lines.append(f"coverage of the {100 * found['band_level']:.0f} % band: {_number(found['band_coverage_touching'])}")
    return "\n".join([*lines, f"{score.seconds:.1f} s"])


def posterior_table(found: HiddenPosterior) -> str:
    """Posterior of hidden entities as plain text, one line per scene."""
    lines = [f"{found.num_hidden} hidden, {len(found.weights)} scenes; inferred under the prior {found.prior}"]
    num_seen = found.layout.num_entities - found.num_hidden
    for scene, relations in enumerate(found.relations):
        acts, spread = relations[:num_seen, num_seen:].T.tolist(), float(found.spreads[scene, 0].mean())
        weight = float(found.weights[scene, 0])
        lines.append(f"scene {scene}: edge types towards the others {acts}, weight {weight:.3f}, spread {spread:.3g}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _cells(match: RelationMatch, label: int) -> list[str]:
    counts = match.confusion[label].tolist()
    return [f"{n:,}{'*' if match.relabelling[kind] == label else ' '}" for kind, n in enumerate(counts)]
