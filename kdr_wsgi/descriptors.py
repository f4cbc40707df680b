"""How many connections a worker may take, so that descriptors for what they ask for are left."""

from __future__ import annotations

import resource

from kdr_wsgi.open_files import CAPACITY

#: Of one worker; most of them wait for their browser's next request.
MAX_CONNECTIONS = 4096

#: What a connection needs: its own, and that of a file whose rest is sent as the client takes it.
_EACH_CONNECTION = 2

#: What a thread needs while it answers: its registry (the file, its log, the log's index), the folder and the file that
#: it opens, and a poll.
_EACH_THREAD = 6

#: What the process has open anyway: its modules' libraries, pipes, listeners, manifests, two for each open tree, and
#: indexes of archives.
_PROCESS = 192


def make_room_for_connections(threads: int) -> int:
    """Raise this process's limit of descriptors where it may, and return how many connections a worker can take.

    Parameters
    ----------
    threads : int
        Of a worker.
    """
    # Large files are kept open, and archives.
    reserved = _PROCESS + 2 * CAPACITY + threads * _EACH_THREAD
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS * _EACH_CONNECTION + reserved
    if limit != resource.RLIM_INFINITY and limit < wanted:
        limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    left = MAX_CONNECTIONS if limit == resource.RLIM_INFINITY else (limit - reserved) // _EACH_CONNECTION
    # With fewer than this some requests are answered 503 until others are done.
    return max(threads, min(left, MAX_CONNECTIONS))
