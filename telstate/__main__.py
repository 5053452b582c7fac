"""`telstate` and `python -m telstate`: the command line, if its packages are installed."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, or say how to install it."""
    try:
        from telstate.cli import app  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"telstate: the command line needs {error.name}: pip install 'telstate[cli]'")
    app()


if __name__ == "__main__":
    main()
