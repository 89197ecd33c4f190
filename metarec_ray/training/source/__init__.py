"""What training has before its first step: tasks, and what is counted over their histories.

Not here: how tasks are cut (`data.tasks`); what is learned of them. Begin with `task_source`.
"""
