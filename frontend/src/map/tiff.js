// The directories of a TIFF file, as much of them as a preview needs, read by ranges.
//
// All that the file says is checked before memory is taken for it. (The parser of geotiff.js trusts the counts that a file
// names, follows directories in a circle, and reads long lists of big-endian files the wrong way round; its decoders are
// what this page takes.)

const MAX_DIRECTORIES = 256;
const MAX_ENTRIES = 4096;

// Of one value, but for the lists of tiles, of which single numbers are read.
const MAX_VALUE_BYTES = 1024 * 1024;

export const TAGS = {
  NewSubfileType: 254,
  ImageWidth: 256,
  ImageLength: 257,
  BitsPerSample: 258,
  Compression: 259,
  Photometric: 262,
  StripOffsets: 273,
  SamplesPerPixel: 277,
  RowsPerStrip: 278,
  StripByteCounts: 279,
  PlanarConfiguration: 284,
  Predictor: 317,
  ColorMap: 320,
  TileWidth: 322,
  TileLength: 323,
  TileOffsets: 324,
  TileByteCounts: 325,
  ExtraSamples: 338,
  SampleFormat: 339,
  JPEGTables: 347,
  ModelPixelScale: 33550,
  ModelTiepoint: 33922,
  ModelTransformation: 34264,
  GeoKeyDirectory: 34735,
  GeoDoubleParams: 34736,
  GeoAsciiParams: 34737,
  GdalNodata: 42113,
  LercParameters: 50674,
};

// Size of each type in bytes, and how one value is read.
const TYPES = {
  1: [1, (view, at) => view.getUint8(at)],
  2: [1, (view, at) => view.getUint8(at)],
  3: [2, (view, at, isLittle) => view.getUint16(at, isLittle)],
  4: [4, (view, at, isLittle) => view.getUint32(at, isLittle)],
  5: [8, (view, at, isLittle) => view.getUint32(at, isLittle) / view.getUint32(at + 4, isLittle)],
  6: [1, (view, at) => view.getInt8(at)],
  7: [1, (view, at) => view.getUint8(at)],
  8: [2, (view, at, isLittle) => view.getInt16(at, isLittle)],
  9: [4, (view, at, isLittle) => view.getInt32(at, isLittle)],
  10: [8, (view, at, isLittle) => view.getInt32(at, isLittle) / view.getInt32(at + 4, isLittle)],
  11: [4, (view, at, isLittle) => view.getFloat32(at, isLittle)],
  12: [8, (view, at, isLittle) => view.getFloat64(at, isLittle)],
  13: [4, (view, at, isLittle) => view.getUint32(at, isLittle)],
  16: [8, (view, at, isLittle) => Number(view.getBigUint64(at, isLittle))],
  17: [8, (view, at, isLittle) => Number(view.getBigInt64(at, isLittle))],
  18: [8, (view, at, isLittle) => Number(view.getBigUint64(at, isLittle))],
};
const ASCII = 2;

export class Directory {
  #file;
  #isLittle;
  #entries;

  constructor(file, isLittle, entries) {
    this.#file = file;
    this.#isLittle = isLittle;
    this.#entries = entries;
  }

  has(tag) {
    return this.#entries.has(tag);
  }

  count(tag) {
    return this.#entries.get(tag)?.count ?? 0;
  }

  // Returns the values of a tag as a list of numbers, a text, or null where it is missing.
  async values(tag) {
    const entry = this.#entries.get(tag);
    if (entry === undefined) {
      return null;
    }
    const [size, read] = TYPES[entry.type];
    if (entry.count * size > MAX_VALUE_BYTES) {
      throw new Error(`The TIFF file names ${entry.count} values for its tag ${tag}, which are too many.`);
    }
    const view = viewOf(await this.#file.read(entry.at, entry.count * size), entry.count * size);
    if (entry.type === ASCII) {
      return new TextDecoder().decode(view).replace(/\0[^]*$/, "");
    }
    return Array.from({ length: entry.count }, (_, index) => read(view, index * size, this.#isLittle));
  }

  // Returns the first value of a tag, or `otherwise`.
  async value(tag, otherwise = null) {
    return this.has(tag) ? this.valueAt(tag, 0) : otherwise;
  }

  // Returns one of the values of a tag, of a list as long as you like.
  async valueAt(tag, index) {
    const { type, count, at } = this.#entries.get(tag);
    if (index >= count) {
      throw new Error(`The TIFF file has no value ${index} for its tag ${tag}.`);
    }
    const [size, read] = TYPES[type];
    return read(viewOf(await this.#file.read(at + index * size, size), size), 0, this.#isLittle);
  }
}

// Reads the directories of a file in their order.
export async function readDirectories(file) {
  const head = viewOf(await file.read(0, 16), 16);
  const isLittle = head.getUint8(0) === 0x49;
  const isBig = head.getUint16(2, isLittle) === 43;
  const directories = [];
  const seen = new Set();
  let offset = isBig ? Number(head.getBigUint64(8, isLittle)) : head.getUint32(4, isLittle);
  while (offset !== 0 && !seen.has(offset) && directories.length < MAX_DIRECTORIES) {
    seen.add(offset);
    const { entries, next } = await readDirectory(file, offset, isLittle, isBig);
    directories.push(new Directory(file, isLittle, entries));
    offset = next;
  }
  if (directories.length === 0) {
    throw new Error("The TIFF file has no image.");
  }
  return { directories, isLittle, isCut: offset !== 0 };
}

async function readDirectory(file, offset, isLittle, isBig) {
  const [countSize, entrySize, offsetSize] = isBig ? [8, 20, 8] : [2, 12, 4];
  const start = viewOf(await file.read(offset, countSize), countSize);
  const count = isBig ? Number(start.getBigUint64(0, isLittle)) : start.getUint16(0, isLittle);
  if (count > MAX_ENTRIES) {
    throw new Error(`The TIFF file has a directory of ${count} entries, which is damaged.`);
  }
  const length = count * entrySize + offsetSize;
  const view = viewOf(await file.read(offset + countSize, length), length);
  const entries = new Map();
  for (let index = 0; index < count; index += 1) {
    const at = index * entrySize;
    const type = view.getUint16(at + 2, isLittle);
    if (!(type in TYPES)) {
      continue; // As the specification says.
    }
    const values = isBig ? Number(view.getBigUint64(at + 4, isLittle)) : view.getUint32(at + 4, isLittle);
    const bytes = values * TYPES[type][0];
    const field = at + (isBig ? 12 : 8);
    const place = isBig ? Number(view.getBigUint64(field, isLittle)) : view.getUint32(field, isLittle);
    entries.set(view.getUint16(at, isLittle), {
      type,
      count: values,
      at: bytes <= offsetSize ? offset + countSize + field : place,
    });
  }
  const last = count * entrySize;
  return { entries, next: isBig ? Number(view.getBigUint64(last, isLittle)) : view.getUint32(last, isLittle) };
}

function viewOf(bytes, length) {
  if (bytes.length < length) {
    throw new Error("The TIFF file ends before it should: it is cut or damaged.");
  }
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
