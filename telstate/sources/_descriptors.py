"""How many connections the file descriptors of this process allow."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["affordable_connections"]


def affordable_connections(wanted: int, *, closing: int) -> int:
    """Return how many connections a server may hold.

    A quarter of the descriptors is left for the program: its journal, its own connections, its files.

    Args:
        wanted: the most it should be.
        closing: how many may be on the way to be closed besides.
    """
    if find_spec("resource") is None:  # Windows has no such limit
        return wanted
    import resource  # noqa: PLC0415 - not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(2, min(wanted, soft * 3 // 4 - closing))
