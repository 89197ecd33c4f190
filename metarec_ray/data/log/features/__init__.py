"""Feature columns: from raw to canonical, by text or type, and from canonical to encoded.

Not here: which rows are kept. Begin with `encode`.
"""
