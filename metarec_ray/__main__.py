"""`python -m metarec_ray`: the command line without its console script."""

import sys

from metarec_ray.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
