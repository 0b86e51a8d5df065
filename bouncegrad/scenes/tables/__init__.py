"""Conversion of tidy tables to scenes: meaning of columns, resampling, relations and derived velocities."""

from bouncegrad.scenes.tables.columns import TableColumns
from bouncegrad.scenes.tables.read import iter_tables, read_table
from bouncegrad.scenes.tables.reader import TableReader
from bouncegrad.scenes.tables.sources import ENDINGS
from bouncegrad.scenes.tables.survey import Reading

__all__ = ["ENDINGS", "Reading", "TableColumns", "TableReader", "iter_tables", "read_table"]
