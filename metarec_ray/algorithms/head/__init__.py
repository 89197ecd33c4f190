"""The head of many tasks at once: what it learns by descent, what it answers, and the way back."""
