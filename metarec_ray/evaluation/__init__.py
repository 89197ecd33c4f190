"""Protocols, statistics and tables: one way to judge every method."""
