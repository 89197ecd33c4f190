"""An interaction log as its owner has it: found, read in chunks, checked, brought to one form.

Not here: histories and stores. Begin with `sources`, then `reading` and `validate`.
"""
