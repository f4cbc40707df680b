"""The Jupyter relay: a Jupyter server extension that passes a logged-in browser's requests on to a relay server."""
