"""Pictures of scenes, inferred graphs, predictions, edge types, hidden entities and calibration."""

from bouncegrad.plots.answer import Answer
from bouncegrad.plots.meanings import draw_meanings
from bouncegrad.plots.picture import draw_graphs, draw_scene, draw_scenes
from bouncegrad.plots.reliability import draw_reliability
from bouncegrad.plots.unseen import Unseen, draw_unseen

__all__ = [
    "Answer",
    "Unseen",
    "draw_graphs",
    "draw_meanings",
    "draw_reliability",
    "draw_scene",
    "draw_scenes",
    "draw_unseen",
]
