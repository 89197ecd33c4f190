"""The HTTP application, its client and its settings.

Not here: Ray; a model is handed in. Begin with `app`.
"""
