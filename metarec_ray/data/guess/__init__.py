"""What a log looks like: settings guessed from the head of its files, each with its reason.

Not here: how the whole log is read (`log`), what is in it (`inspection`). Begin with `guess`.
"""
