"""Encoders of users, items and context, and the head over them; pure torch, vmap-safe.

Not here: what adapts the head. Begin with `towers`.
"""
