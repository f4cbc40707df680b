"""The media type of a file, by its name alone."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type, and whether a browser would run what a file of it holds."""

    content_type: str
    is_active: bool


_SCIENCE_TYPES = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".asdf": "application/x-asdf",
    ".avif": "image/avif",
    ".b3dm": "application/octet-stream",
    ".bz2": "application/x-bzip2",
    ".csv": "text/csv",
    ".czml": "application/json",
    ".dzi": "application/xml",
    ".ecsv": "text/plain",
    ".fit": "image/fits",
    ".fits": "image/fits",
    ".fts": "image/fits",
    ".fz": "image/fits",
    ".geojson": "application/geo+json",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".gz": "application/gzip",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".hips": "text/plain",
    ".ipynb": "application/x-ipynb+json",
    ".j2k": "image/jp2",
    ".jp2": "image/jp2",
    ".js": "text/javascript",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".jxl": "image/jxl",
    ".ktx2": "image/ktx2",
    ".las": "application/vnd.las",
    ".laz": "application/vnd.laszip",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mvt": "application/vnd.mapbox-vector-tile",
    ".nc": "application/netcdf",
    ".npy": "application/octet-stream",
    ".npz": "application/zip",
    ".parquet": "application/vnd.apache.parquet",
    ".pbf": "application/x-protobuf",
    ".pmtiles": "application/vnd.pmtiles",
    ".reg": "text/plain",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".toml": "application/toml",
    ".vot": "application/x-votable+xml",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".wtml": "application/x-wtml",
    ".xml": "application/xml",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zarray": "application/json",
    ".zattrs": "application/json",
    ".zgroup": "application/json",
    ".zip": "application/zip",
    ".zmetadata": "application/json",
    ".zst": "application/zstd",
}

#: Python's own table, without those of the machine (mime.types files, the Windows registry).
_TYPES = {**mimetypes.MimeTypes(filenames=()).types_map[True], **_SCIENCE_TYPES}

#: What browsers run as a page although it is not XML by name.
_ACTIVE_TYPES = frozenset(
    "application/x-shockwave-flash image/svg+xml multipart/x-mixed-replace text/html text/xsl".split()
)


def find_media_type(name: bytes) -> MediaType:
    """Return the media type of a file called `name`; ``application/octet-stream`` where nothing is known.

    The last extension decides: ``cube.fits.gz`` is a gzip file, since nobody
    said that a browser should unpack it.
    """
    return _by_extension(name[name.rfind(b".") :].lower() if b"." in name else b"")


@lru_cache(maxsize=1024)
def _by_extension(extension: bytes) -> MediaType:
    media_type = _TYPES.get(extension.decode("latin-1"), "application/octet-stream")
    is_active = media_type in _ACTIVE_TYPES or media_type.endswith(("/xml", "+xml"))
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    return MediaType(media_type, is_active)
