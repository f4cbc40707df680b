# PYTHON_ARGCOMPLETE_OK: this, in the module that the script `kdr` runs, tells argcomplete's global completion.
"""The command `kdr`, which is also `python -m kdr_wsgi`; it says so where these packages do not run."""

from __future__ import annotations

import sys


def main() -> int:
    """Run `kdr_wsgi.cli.main`."""
    try:
        from kdr_wsgi import cli
    except ImportError as error:
        if error.name != "hub":
            raise
        print(f"kdr: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    code = cli.main()
    # Imported only by what asks object stores.
    if loop := sys.modules.get("kdr_wsgi.objects.loop"):
        loop.leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
