"""The HTTP application, its client and its settings.

Not here: Ray, and the model, which is passed in. Begin with `app`.
"""
