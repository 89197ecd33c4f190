"""Charts as inline SVG: the same numbers always give the same text.

Not here: HTML. Begin with `curves`.
"""
