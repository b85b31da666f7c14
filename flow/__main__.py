"""`python -m flow`: the same as the `bitwright` command."""

import sys

from flow.cli import main

if __name__ == "__main__":
    sys.exit(main())
