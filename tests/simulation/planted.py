"""Bugs on purpose: what the simulation must catch, or its checks could not fail.

Each is one place that is done wrong, as a context manager: while it is entered, every handler has the bug.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

Bug = Callable[[], AbstractContextManager[object]]


class Bugs(list[Bug]):
    """Those of one kind."""

    def plant(self, bug: Bug) -> Bug:
        """Add one."""
        self.append(bug)
        return bug
