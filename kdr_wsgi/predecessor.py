"""The relay that this one takes the place of, and that answers at the same route."""

from __future__ import annotations

from collections.abc import Container

from hub.settings import DEFAULT_ROUTE

PREDECESSOR = "wwt_kernel_data_relay"


def explain_conflict(enabled: Container[str], route: str) -> str | None:
    """Return what there is to know and to do if both relays want `route`.

    Parameters
    ----------
    enabled : container of str
        The Jupyter server's extensions that are enabled.
    route : str
        That of this relay.
    """
    if route != DEFAULT_ROUTE or PREDECESSOR not in enabled:
        return None
    return (
        f"{PREDECESSOR} is enabled too, and both relays answer at {route}/. This one comes first, so what pywwt "
        "publishes through the other is not found. Either let pywwt publish through this one (hub.pywwt.enable()) and "
        f"run jupyter server extension disable --sys-prefix {PREDECESSOR}, or keep both and set "
        "c.KernelDataRelay.route = 'kdr' in jupyter_server_config.py"
    )
