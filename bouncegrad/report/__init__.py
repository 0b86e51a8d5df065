"""Answers as pictures and tables that a person understands at a glance."""

from bouncegrad.report.answer import Answer
from bouncegrad.report.meanings import draw_meanings
from bouncegrad.report.picture import draw_graphs, draw_scene, draw_scenes
from bouncegrad.report.reliability import draw_reliability
from bouncegrad.report.table import confusion_table, hidden_table, posterior_table, score_table
from bouncegrad.report.unseen import Unseen, draw_unseen

__all__ = [
    "Answer",
    "Unseen",
    "confusion_table",
    "draw_graphs",
    "draw_meanings",
    "draw_reliability",
    "draw_scene",
    "draw_scenes",
    "draw_unseen",
    "hidden_table",
    "posterior_table",
    "score_table",
]
