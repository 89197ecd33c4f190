"""Pure functions: histories and tasks, inner and outer loop, heads, losses, metrics.

Not here: Ray, files, configurations, clocks. Begin with `histories` and `batch`, then `outer_loop`.
"""
