"""What was inferred, in the forms in which people go on with it: matrices, tables and graphs of other packages.

Packages that a form needs are imported when it is asked for.
"""

from __future__ import annotations

from bouncegrad.answers.adjacency import Adjacency, adjacency
from bouncegrad.answers.arrays import to_xarray
from bouncegrad.answers.graphs import to_networkx, to_torch_geometric
from bouncegrad.answers.table import relation_table, write_table

__all__ = [
    "Adjacency",
    "adjacency",
    "relation_table",
    "to_networkx",
    "to_torch_geometric",
    "to_xarray",
    "write_table",
]
