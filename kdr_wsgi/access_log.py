"""The access log: one JSON object a line, without what logs somebody in."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import Logger

from kdr_wsgi.viewers import MEMBER

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class AccessLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's logger, with lines of JSON for requests.

    Neither queries nor any other headers are written, since they may hold
    tokens, cookies and the codes of logins.
    """

    def access(self, resp: Any, req: Any, environ: WSGIEnvironment, request_time: timedelta) -> None:
        """Write the line of a request that has been answered."""
        if not self.access_log_enabled:
            return
        told = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "method": req.method,
            # As it was sent, quoted; of the query gunicorn has made another attribute.
            "path": req.path,
            "status": int(resp.status[:3]),
            # Promised, since a body may be sent for long after this line.
            "bytes": (0 if req.method == "HEAD" else resp.response_length) or resp.sent,
            "seconds": request_time.total_seconds(),
            "peer": environ.get("REMOTE_ADDR"),
            "user": environ.get(MEMBER),
        }
        self.access_log.info(json.dumps(told))
