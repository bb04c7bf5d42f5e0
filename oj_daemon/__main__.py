"""`python -m oj_daemon` is the daemon in the foreground."""

from __future__ import annotations

import sys

from oj_daemon.main import main

sys.exit(main())
