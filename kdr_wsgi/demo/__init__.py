"""The demonstration: an image as a tile pyramid, in JupyterLab or on a page of its own."""
