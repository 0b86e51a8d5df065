"""Search over structures: integers and losses, nothing of graphs or networks."""
