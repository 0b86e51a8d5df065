"""Export of posteriors: labelled matrices, tidy tables, arrays with named axes, and graphs of other packages.

Optional packages (pandas, xarray, networkx, torch-geometric) are imported when a function needs them.
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
