"""The media type of a file, by its name alone."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type, and what follows from it.

    Attributes
    ----------
    content_type : str
    is_active : bool
        Whether a browser would run what a file of it holds.
    is_compressible : bool
        Whether it is text or the like, which a content coding makes much smaller.
    """

    content_type: str
    is_active: bool
    is_compressible: bool


#: What the web and science use, and Python's table does not know, or calls otherwise from version to version.
_OWN_TYPES = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".asdf": "application/x-asdf",
    ".atom": "application/atom+xml",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".bz2": "application/x-bzip2",
    ".css": "text/css",
    ".csv": "text/csv",
    ".czml": "application/json",
    ".dzi": "application/xml",
    ".ecsv": "text/plain",
    ".fit": "image/fits",
    ".fits": "image/fits",
    ".flac": "audio/flac",
    ".fts": "image/fits",
    ".fz": "image/fits",
    ".geojson": "application/geo+json",
    ".gif": "image/gif",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".gpx": "application/gpx+xml",
    ".gz": "application/gzip",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".hips": "text/plain",
    ".htm": "text/html",
    ".html": "text/html",
    ".ico": "image/vnd.microsoft.icon",
    ".ipynb": "application/x-ipynb+json",
    ".j2k": "image/jp2",
    ".jp2": "image/jp2",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".jxl": "image/jxl",
    ".kml": "application/vnd.google-earth.kml+xml",
    ".kmz": "application/vnd.google-earth.kmz",
    ".ktx2": "image/ktx2",
    ".las": "application/vnd.las",
    ".laz": "application/vnd.laszip",
    ".log": "text/plain",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".mvt": "application/vnd.mapbox-vector-tile",
    ".nc": "application/netcdf",
    ".npy": "application/octet-stream",
    ".npz": "application/zip",
    ".ogg": "audio/ogg",
    ".otf": "font/otf",
    ".parquet": "application/vnd.apache.parquet",
    ".pbf": "application/x-protobuf",
    ".pdf": "application/pdf",
    ".pmtiles": "application/vnd.pmtiles",
    ".png": "image/png",
    ".py": "text/x-python",
    ".reg": "text/plain",
    ".rss": "application/rss+xml",
    ".svg": "image/svg+xml",
    ".tar": "application/x-tar",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".toml": "application/toml",
    ".tsv": "text/tab-separated-values",
    ".ttf": "font/ttf",
    ".txt": "text/plain",
    ".vot": "application/x-votable+xml",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".wtml": "application/x-wtml",
    ".xht": "application/xhtml+xml",
    ".xhtml": "application/xhtml+xml",
    ".xml": "application/xml",
    ".xsl": "application/xml",
    ".xslt": "application/xslt+xml",
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
_TYPES = {**mimetypes.MimeTypes(filenames=()).types_map[True], **_OWN_TYPES}

#: What browsers run as a page although it is not XML by name.
_ACTIVE_TYPES = frozenset(
    "application/x-shockwave-flash image/svg+xml multipart/x-mixed-replace text/html text/xsl".split()
)

#: What is text, or as wordy as text, though its name does not say so.
_WORDY_TYPES = frozenset(
    "application/ecmascript application/javascript application/json application/jsonl application/n-quads "
    "application/n-triples application/toml application/trig application/wasm application/x-csh "
    "application/x-latex application/x-ndjson application/x-sh application/x-tex application/x-wtml application/xml "
    "application/yaml".split()
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
    is_text = media_type.startswith("text/")
    is_compressible = is_text or media_type in _WORDY_TYPES or media_type.endswith(("+json", "+xml"))
    if is_text:
        media_type += "; charset=utf-8"
    return MediaType(media_type, is_active, is_compressible)
