"""What was inferred, in the forms in which people go on with it: matrices, tables and graphs of other packages.

Packages that a form needs are imported when it is asked for.
"""

from __future__ import annotations

from bouncegrad.export.adjacency import Adjacency, adjacency
from bouncegrad.export.arrays import to_xarray
from bouncegrad.export.graphs import to_networkx, to_torch_geometric
from bouncegrad.export.table import relation_table, write_table

__all__ = [
    "Adjacency",
    "adjacency",
    "relation_table",
    "to_networkx",
    "to_torch_geometric",
    "to_xarray",
    "write_table",
]
