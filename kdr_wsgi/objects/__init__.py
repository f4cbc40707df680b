"""Objects of object stores, served as files are."""
