"""Scenes: recordings of interacting entities; reading, writing, splitting, stacking and normalisation of them."""

from bouncegrad.scenes.files import has_split, read_meta, read_part, read_scenes, write_folder, write_npz
from bouncegrad.scenes.layout import NRI_TIME_STEP, from_arrays, to_arrays
from bouncegrad.scenes.normalization import Normalization
from bouncegrad.scenes.parts import split, stack_scenes
from bouncegrad.scenes.record import DataError, Scenes
from bouncegrad.scenes.relations import relation_kinds
from bouncegrad.scenes.tables import TableColumns, iter_tables, read_table

__all__ = [
    "NRI_TIME_STEP",
    "DataError",
    "Normalization",
    "Scenes",
    "TableColumns",
    "from_arrays",
    "has_split",
    "iter_tables",
    "read_meta",
    "read_part",
    "read_scenes",
    "read_table",
    "relation_kinds",
    "split",
    "stack_scenes",
    "to_arrays",
    "write_folder",
    "write_npz",
]
