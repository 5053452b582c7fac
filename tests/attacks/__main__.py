"""`python -m tests.attacks [ATTACK …] [--seconds S] [--connections N] [--addresses M …] [--pause P]`: prints a JSON object for each."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product

from tests.attacks.receiver import receive_under_attack
from tests.attacks.strangers import ATTACKS


def main() -> int:
    """Run attacks and report; exit with 1 if something was not acknowledged, or lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("attack", nargs="*", help=f"{', '.join(ATTACKS)}, all; by default each of them")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--connections", type=int, default=1_500)
    parser.add_argument("--addresses", type=int, nargs="*", default=[1, 500], help="each attack is made from so many")
    parser.add_argument("--pause", type=float, default=5.0)
    options = parser.parse_args()
    holds = True
    for attack, addresses in product(options.attack or [*ATTACKS, "all"], options.addresses):
        report = receive_under_attack(
            attack,
            seconds=options.seconds,
            connections=options.connections,
            addresses=addresses,
            pause=options.pause,
        )
        sys.stdout.write(json.dumps(report._asdict()) + "\n")
        sys.stdout.flush()
        holds = holds and report.acknowledged == report.sent and report.lost == 0
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
