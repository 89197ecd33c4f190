"""From an interaction log to a task store, and from the store to lanes of tensors.

Not here: learners, Ray. Begin with `settings` (what a user says about a log), then follow an event:
`log` -> `store` -> `tasks`. `files` reads and writes; `datasets` are logs with a known layout.
"""
