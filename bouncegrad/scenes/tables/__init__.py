"""Tidy tables as a source of scenes: which columns hold what, and everything from there to the record."""

from bouncegrad.scenes.tables.columns import TableColumns
from bouncegrad.scenes.tables.read import iter_tables, read_table
from bouncegrad.scenes.tables.reader import TableReader
from bouncegrad.scenes.tables.sources import ENDINGS
from bouncegrad.scenes.tables.survey import Reading

__all__ = ["ENDINGS", "Reading", "TableColumns", "TableReader", "iter_tables", "read_table"]
