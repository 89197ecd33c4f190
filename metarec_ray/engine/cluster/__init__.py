"""Where Ray runs: sessions, local clusters, jobs, and what a machine must have.

Not here: what runs there. Begin with `session`; `submit` sends a verb as a job.
"""
