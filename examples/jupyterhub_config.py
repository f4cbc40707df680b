"""A JupyterHub whose users share one relay server; to be tried as it stands.

    pip install '.[jupyter,jupyterhub]' jupyterlab
    npm install -g configurable-http-proxy
    jupyterhub -f examples/jupyterhub_config.py

Then log in at http://127.0.0.1:8000 as ada, and in another browser as bob,
with any password; root is the administrator. docs/jupyterhub.md tells what to
change for real users.
"""

import os
import sys

c = get_config()  # noqa: F821  # JupyterHub defines it

here = os.getcwd()

# --- The shared relay server -----------------------------------------------------------------------------------------

c.JupyterHub.services = [
    {
        "name": "kdr",
        # Where it listens; the hub's proxy passes /services/kdr/ on.
        "url": "http://127.0.0.1:10101",
        "command": [
            *(sys.executable, "-m", "gunicorn"),
            *("-c", "python:kdr_wsgi.gunicorn_conf", "kdr_wsgi:create_app()"),
        ],
        "environment": {
            # In a folder of the service's own. In production: /var/lib/kdr/registry.sqlite
            "KDR_REGISTRY": f"{here}/kdr-service/registry.sqlite",
            # What each user may publish. In production: /home/{username}:/data/shared
            "KDR_ROOTS": f"{here}/homes/{{username}}:{here}/shared",
            # The hub's proxy, which tells how the browser sees it.
            "KDR_TRUSTED_PROXIES": "127.0.0.1",
        },
        # A link leads over the login straight to the file.
        "oauth_no_confirm": True,
        # Administrators may look at _status and _metrics.
        "oauth_client_allowed_scopes": ["read:metrics"],
        "display": False,
    }
]

# All users may read there what they are allowed to ...
c.JupyterHub.load_roles = [{"name": "user", "scopes": ["self", "access:services!service=kdr"]}]

# ... and their kernels may publish.
c.Spawner.server_token_scopes = [
    "users:activity!user",
    "access:servers!server",
    "access:services!service=kdr",
]
c.Spawner.environment = {"KDR_SERVICE_URL": "http://127.0.0.1:10101/services/kdr/"}

# --- Users to try it with --------------------------------------------------------------------------------------------

c.JupyterHub.bind_url = "http://127.0.0.1:8000"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allowed_users = {"ada", "bob", "eve"}
c.Authenticator.admin_users = {"root"}
c.JupyterHub.load_groups = {"astro": {"users": ["ada", "bob"]}}
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = f"{here}/homes/{{username}}"
