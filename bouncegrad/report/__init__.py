"""Answers as pictures and tables that a person understands at a glance."""

from bouncegrad.report.answer import Answer
from bouncegrad.report.picture import draw_scene, draw_scenes
from bouncegrad.report.reliability import draw_reliability
from bouncegrad.report.table import confusion_table, score_table

__all__ = ["Answer", "confusion_table", "draw_reliability", "draw_scene", "draw_scenes", "score_table"]
