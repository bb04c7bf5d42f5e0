"""The daemon of `oj`, and everything that it shares with the command line.

`__version__` is a literal because reading it from package metadata would cost every call of `oj` about 35 ms.
"""

from __future__ import annotations

__version__ = "0.1.0"
