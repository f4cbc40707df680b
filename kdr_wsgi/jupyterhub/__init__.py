"""The relay server as a service of a JupyterHub, shared by all its users."""
