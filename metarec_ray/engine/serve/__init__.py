"""A checkpoint behind Ray Serve: replicas, proxies, a first request.

Not here: the HTTP application (`service`). Begin with `driver`, then `deployment`.
"""
