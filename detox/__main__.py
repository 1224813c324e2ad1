"""`python -m detox` is `detox`."""

import sys

from detox.cli import main

sys.exit(main())
