"""`python -m oj_cli` is `oj`."""

from __future__ import annotations

import sys

from oj_cli.main import main

sys.exit(main())
