"""Folders in an object store: a run or a task store at a URI, worked on in a copy on each machine.

Not here: what the files of a run mean, and Ray. Begin with `working_copy`.
"""
