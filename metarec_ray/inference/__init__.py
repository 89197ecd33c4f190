"""Answers to requests, offline and online: support sets in, scores and ranked ids out.

Not here: HTTP, Ray, how a learner was trained. Begin with `recommender`, and go down: `retrieval`,
`catalogue_scores`, `predictor`, `single`, `supports`.
"""
