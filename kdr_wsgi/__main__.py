"""`python -m kdr_wsgi` is the command `kdr`."""

import sys

from kdr_wsgi.cli import main

sys.exit(main())
