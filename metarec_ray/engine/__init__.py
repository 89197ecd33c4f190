"""Ray Data, Train, Tune, Serve and Jobs: the only package that imports ray.

Importing it asks for token authentication first, because Ray reads `RAY_AUTH_MODE` once, when it
is itself imported. Not here: mathematics. Begin with `quickstart`, which runs all of it once, or
with the `driver` of a folder.
"""

import os

from metarec_ray.engine.cluster.access import require_token_mode

require_token_mode(os.environ)
