"""Rows: from an interaction log to a store of tasks, and from the store to lanes of tensors.

Not here: learners, Ray. Begin with `settings` (what a user says of a log), then follow an event:
`log` -> `store` -> `tasks`; `files` lie below them, `datasets` are known by name.
"""
