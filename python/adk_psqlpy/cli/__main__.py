"""`python -m adk_psqlpy.cli` is `adk-psqlpy`."""

import sys

from adk_psqlpy.cli import main

sys.exit(main())
