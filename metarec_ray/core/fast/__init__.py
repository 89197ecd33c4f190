"""Layers with fast weights: how they learn by descent, and the way back through it, by hand."""
