"""An experiment: one YAML file, its sections, and the sentences that refuse a wrong one.

Not here: the sections `data`, `model` and `algorithm`, which stand with what they configure.
Begin with `experiment`.
"""
