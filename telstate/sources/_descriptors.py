"""How many connections the file descriptors of this process allow."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["affordable_connections"]


def affordable_connections(wanted: int, *, accepted_at_once: int) -> int:
    """Return how many connections a server may hold.

    A quarter of the descriptors is left for the program: its journal, its own connections, its files.

    Args:
        wanted: the most it should be.
        accepted_at_once: how many new ones may come on top of them, before old ones are closed.
    """
    if find_spec("resource") is None:  # Windows has no such limit
        return wanted
    import resource  # noqa: PLC0415 - not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(2, min(wanted, soft * 3 // 4 - 2 * accepted_at_once))
