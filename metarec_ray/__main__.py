"""`python -m metarec_ray`: the command line without its console script."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # The working folder comes last: a user's torch.py is not torch.
        sys.path.append(sys.path.pop(0))

    from metarec_ray.cli.app import main

    sys.exit(main())
