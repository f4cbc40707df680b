// PMTiles, version 3, read by ranges: https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md
//
// Its sizes and counts are checked before memory is taken for them.

import { PMTiles, bytesToHeader, readVarint } from "pmtiles";
import { Kept } from "../common/kept.js";
import { formatBytes } from "../common/page.js";
import { unpackStream, unpackZstd } from "../common/unpack.js";

const HEAD_BYTES = 127;
const MAX_PART_BYTES = 16 * 1024 * 1024;
const MAX_UNPACKED_BYTES = 64 * 1024 * 1024;
const MAX_ENTRIES = 2_000_000;
const KEPT_DIRECTORIES = 64;

const NONE = 1;
const GZIP = 2;
const ZSTD = 4;

export async function openArchive(file) {
  const directories = new Directories(file);
  const archive = new PMTiles({ getKey: () => "", getBytes: (...range) => getBytes(file, ...range) }, directories, unpack);
  return { archive, header: await directories.getHeader() };
}

async function getBytes(file, offset, length, signal) {
  if (length > MAX_PART_BYTES) {
    throw new Error(`A part of the PMTiles file has ${formatBytes(length)}, more than a tile or a directory may have here.`);
  }
  if (!(offset + length <= file.size)) {
    throw new Error("The PMTiles file ends before it should: it is cut or damaged.");
  }
  signal?.throwIfAborted();
  // Neighbouring tiles often lie in one block of the file, which is read once, for all of them.
  return { data: (await file.read(offset, length)).buffer };
}

async function unpack(buffer, compression) {
  switch (compression) {
    case 0:
    case NONE:
      return buffer;
    case GZIP:
      return (await unpackStream(buffer, "gzip", MAX_UNPACKED_BYTES)).buffer;
    case ZSTD:
      return (await unpackZstd(new Uint8Array(buffer), MAX_UNPACKED_BYTES)).buffer;
    default:
      throw new Error("The file is compressed with Brotli, or by something unknown, which cannot be unpacked here.");
  }
}

// What PMTiles keeps of a file.
class Directories {
  #file;
  #kept = new Kept(KEPT_DIRECTORIES);
  #header;

  constructor(file) {
    this.#file = file;
  }

  getHeader() {
    this.#header ??= this.#readHeader();
    return this.#header;
  }

  async #readHeader() {
    const { data } = await getBytes(this.#file, 0, HEAD_BYTES);
    if (new DataView(data).getUint8(7) !== 3) {
      throw new Error("The file is PMTiles, but not of version 3.");
    }
    const header = bytesToHeader(data);
    if (!(header.minZoom <= header.maxZoom && header.maxZoom <= 26)) {
      throw new Error("The PMTiles file says that it has no zoom levels.");
    }
    return header;
  }

  getDirectory(_, offset, length, header) {
    return this.#kept.get(`${offset}/${length}`, () => this.#readDirectory(offset, length, header));
  }

  async #readDirectory(offset, length, header) {
    const { data } = await getBytes(this.#file, offset, length);
    return parseDirectory(new Uint8Array(await unpack(data, header.internalCompression)));
  }

  async invalidate() {}
}

function parseDirectory(buf) {
  const position = { buf, pos: 0 };
  const next = () => {
    if (position.pos >= buf.length) {
      throw new Error("A directory of the PMTiles file ends before it should: it is damaged.");
    }
    return readVarint(position);
  };
  const count = next();
  if (count > MAX_ENTRIES || count * 4 > buf.length) {
    throw new Error("A directory of the PMTiles file names more tiles than it can have: it is damaged.");
  }
  const entries = [];
  let tileId = 0;
  for (let index = 0; index < count; index += 1) {
    tileId += next();
    entries.push({ tileId, offset: 0, length: 0, runLength: 0 });
  }
  for (const entry of entries) {
    entry.runLength = next();
  }
  for (const entry of entries) {
    entry.length = next();
  }
  entries.forEach((entry, index) => {
    const offset = next();
    const before = entries[index - 1];
    entry.offset = offset === 0 && before ? before.offset + before.length : offset - 1;
  });
  return entries;
}
