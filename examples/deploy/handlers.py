"""What the services here run, until you put your own program in its place: it logs how each call ended."""

from __future__ import annotations

import logging

from telstate import Router, Session

router = Router()
log = logging.getLogger("telstate.calls")


@router.on_end()
async def ended(session: Session) -> None:
    """Runs at the end of each call. It may run again after a crash, so what it does should do no harm twice."""
    log.info("%s ended: %s", session.session_id, session.cause)
