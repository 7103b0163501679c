"""The logger of the package."""
from __future__ import annotations

import logging


def logger() -> logging.Logger:
    """The logger `jempp`: silent until the host gives it, or the root, a handler."""
    found = logging.getLogger("jempp")
    if not found.handlers:
        found.addHandler(logging.NullHandler())
    return found
