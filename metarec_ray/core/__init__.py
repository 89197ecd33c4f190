"""Pure functions over tasks and parameters: inner and outer loop, heads, losses, metrics.

Not here: Ray, files, configurations, clocks. Begin with `batch`, then `outer_loop`.
"""
