"""Charts as inline SVG: the same numbers give the same text, letter for letter.

Not here: HTML. Begin with `curves`.
"""
