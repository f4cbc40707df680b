"""The relay that this one takes the place of, and that answers at the same route."""

from __future__ import annotations

from collections.abc import Container

from hub.settings import DEFAULT_ROUTE

PREDECESSOR = "wwt_kernel_data_relay"


def explain_route(enabled: Container[str], route: str) -> str | None:
    """Return what there is to know and to do if both relays want `route`, or if none has the one that pages expect.

    Parameters
    ----------
    enabled : container of str
        The Jupyter server's extensions that are enabled.
    route : str
        That of this relay.
    """
    if route == DEFAULT_ROUTE and PREDECESSOR in enabled:
        return (
            f"{PREDECESSOR} is enabled too, and both relays answer at {route}/. This one comes first, so what pywwt "
            "publishes through the other is not found. Either let pywwt publish through this one (hub.pywwt.enable()) "
            f"and run jupyter server extension disable --sys-prefix {PREDECESSOR}, or keep both and set "
            "c.KernelDataRelay.route = 'kdr' in jupyter_server_config.py"
        )
    if route != DEFAULT_ROUTE and PREDECESSOR not in enabled:
        return (
            f"this relay answers at {route}/, and none at {DEFAULT_ROUTE}/, where the application WorldWide Telescope "
            "in JupyterLab looks for one; unless that is meant, unset c.KernelDataRelay.route and KDR_ROUTE"
        )
    return None
