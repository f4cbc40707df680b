"""Content keys: what files and trees hash to, and where that is remembered."""
