"""Where Ray runs: sessions, local clusters, where jobs go, and what a machine must have.

Not here: what runs there. Begin with `session`.
"""
