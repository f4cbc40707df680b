// The images of a TIFF file that show the same in several sizes, and their blocks: tiles, or rows of a strip.

import { getDecoder } from "geotiff";
import { formatBytes } from "../common/page.js";
import { Pieces } from "../common/queue.js";
import { checkSize } from "../common/unpack.js";
import "./decoders.js";
import { TAGS } from "./tiff.js";

// Of one block, decoded; and of all that are kept.
const MAX_BLOCK_BYTES = 256 * 1024 * 1024;
const KEPT_BYTES = 256 * 1024 * 1024;

// An uncompressed strip is read in parts of about this size.
const PART_BYTES = 262144;

const MAX_SIDE = 2 ** 31;
const MASK = 4;
const REDUCED = 1;

const ARRAYS = {
  "1-8": Uint8Array,
  "1-16": Uint16Array,
  "1-32": Uint32Array,
  "2-8": Int8Array,
  "2-16": Int16Array,
  "2-32": Int32Array,
  "3-16": Float32Array,
  "3-32": Float32Array,
  "3-64": Float64Array,
};

const JPEG = 7;

const pieces = new Pieces(KEPT_BYTES);

// One image of the file: its size, what a pixel is, and its blocks.
export class Level {
  #file;
  #directory;
  #isLittle;
  #decoder;
  #rowsPerStrip;
  #id;

  static #count = 0;

  // Throws an Error where the image is none that can be shown.
  static async read(file, directory, isLittle) {
    const level = new Level();
    level.#file = file;
    level.#directory = directory;
    level.#isLittle = isLittle;
    level.#id = Level.#count;
    Level.#count += 1;
    await level.#describe();
    return level;
  }

  async #describe() {
    const directory = this.#directory;
    const number = async (tag, otherwise) => Number(await directory.value(tag, otherwise));
    this.width = await number(TAGS.ImageWidth, 0);
    this.height = await number(TAGS.ImageLength, 0);
    this.kind = await number(TAGS.NewSubfileType, 0);
    this.samples = await number(TAGS.SamplesPerPixel, 1);
    this.compression = await number(TAGS.Compression, 1);
    this.photometric = await number(TAGS.Photometric, 1);
    this.isPlanar = (await number(TAGS.PlanarConfiguration, 1)) === 2;
    this.predictor = await number(TAGS.Predictor, 1);
    const bits = (await directory.values(TAGS.BitsPerSample)) ?? [1];
    const formats = (await directory.values(TAGS.SampleFormat)) ?? [1];
    if (!(isSide(this.width) && isSide(this.height) && this.samples >= 1 && this.samples <= 65535)) {
      throw new Error(`The TIFF file says that its image has ${this.width} × ${this.height} pixels, which cannot be.`);
    }
    this.bits = bits[0];
    this.format = formats[0] === 4 ? 1 : formats[0]; // 4: of no type that was told.
    if (bits.some((each) => each !== this.bits) || formats.some((each) => each !== formats[0])) {
      throw new Error("Bands of several types in one image cannot be shown.");
    }
    this.array = ARRAYS[`${this.format}-${this.bits < 8 ? 8 : this.bits}`];
    if (this.array === undefined || (this.bits < 8 && ![1, 2, 4].includes(this.bits))) {
      const type = { 1: "whole numbers", 2: "whole numbers with a sign", 3: "floating point", 5: "complex whole numbers", 6: "complex numbers" };
      throw new Error(`Pixels of ${this.bits} bits (${type[this.format] ?? `format ${this.format}`}) cannot be shown.`);
    }
    this.isTiled = directory.has(TAGS.TileOffsets);
    this.#rowsPerStrip = this.isTiled ? await number(TAGS.TileLength, 0) : Math.min(await number(TAGS.RowsPerStrip, this.height), this.height);
    this.blockWidth = this.isTiled ? await number(TAGS.TileWidth, 0) : this.width;
    if (!(isSide(this.blockWidth) && isSide(this.#rowsPerStrip))) {
      throw new Error("The TIFF file says that its tiles have no size.");
    }
    this.blockSamples = this.isPlanar ? 1 : this.samples;
    this.rowBytes = Math.ceil((this.blockWidth * this.blockSamples * this.bits) / 8);
    const isRaw = this.compression === 1 && this.predictor === 1 && !this.isTiled;
    this.blockHeight = isRaw
      ? Math.max(1, Math.min(this.#rowsPerStrip, Math.floor(PART_BYTES / this.rowBytes)))
      : this.#rowsPerStrip;
    this.blockBytes = this.blockWidth * this.blockHeight * this.blockSamples * this.array.BYTES_PER_ELEMENT;
    this.across = Math.ceil(this.width / this.blockWidth);
    this.stripsDown = Math.ceil(this.height / this.#rowsPerStrip);
    this.partsOfStrip = Math.ceil(this.#rowsPerStrip / this.blockHeight);
    const offsets = directory.count(this.isTiled ? TAGS.TileOffsets : TAGS.StripOffsets);
    if (offsets < this.across * this.stripsDown * (this.isPlanar ? this.samples : 1)) {
      throw new Error("The TIFF file names fewer tiles than its image has: it is cut or damaged.");
    }
    if (this.blockBytes > MAX_BLOCK_BYTES) {
      throw new Error(
        `The image is stored in pieces of ${formatBytes(this.blockBytes)}, each of which must be read as a whole: too much for a preview.`,
      );
    }
  }

  get isMask() {
    return (this.kind & MASK) !== 0;
  }

  get #isForeign() {
    return !this.#isLittle && this.bits > 8;
  }

  get isReduced() {
    return (this.kind & REDUCED) !== 0;
  }

  // Returns the number of blocks down.
  get down() {
    return this.stripsDown * this.partsOfStrip;
  }

  // Returns which block down has a row.
  blockOfRow(y) {
    const strip = Math.floor(y / this.#rowsPerStrip);
    return strip * this.partsOfStrip + Math.floor((y - strip * this.#rowsPerStrip) / this.blockHeight);
  }

  // Returns the first row of a block down.
  firstRowOf(block) {
    const strip = Math.floor(block / this.partsOfStrip);
    return strip * this.#rowsPerStrip + (block - strip * this.partsOfStrip) * this.blockHeight;
  }

  #rowsOf(block) {
    const strip = Math.floor(block / this.partsOfStrip);
    const end = this.isTiled ? (strip + 1) * this.#rowsPerStrip : Math.min((strip + 1) * this.#rowsPerStrip, this.height);
    return Math.min(this.blockHeight, end - this.firstRowOf(block));
  }

  // Returns the values of a block, by row, column and sample; null where the file has none.
  readBlock(x, y, sample, signal) {
    const plane = this.isPlanar ? sample : 0;
    const key = `${this.#id}/${plane}/${y}/${x}`;
    return pieces.get(key, () => this.#load(x, y, plane), (block) => block?.byteLength ?? 1, signal);
  }

  async #load(x, y, plane) {
    const strip = Math.floor(y / this.partsOfStrip);
    const index = (plane * this.stripsDown + strip) * this.across + x;
    const [offsets, counts] = this.isTiled
      ? [TAGS.TileOffsets, TAGS.TileByteCounts]
      : [TAGS.StripOffsets, TAGS.StripByteCounts];
    let offset = await this.#directory.valueAt(offsets, index);
    let count = this.#directory.has(counts) ? await this.#directory.valueAt(counts, index) : this.rowBytes * this.#rowsPerStrip;
    if (offset === 0 || count === 0) {
      return null; // A sparse file.
    }
    const rows = this.#rowsOf(y);
    if (this.partsOfStrip > 1) {
      offset += (y - strip * this.partsOfStrip) * this.blockHeight * this.rowBytes;
      count = rows * this.rowBytes;
    }
    if (count > 2 * this.blockBytes + 65536) {
      throw new Error(`One piece of the image has ${formatBytes(count)}: too much for a preview.`);
    }
    const bytes = await this.#file.read(offset, count);
    if (bytes.length < count) {
      throw new Error("The TIFF file ends before it should: it is cut or damaged.");
    }
    if (this.compression === JPEG) {
      checkSize(jpegPixels(bytes), this.blockWidth * this.blockHeight * 2);
    }
    const decoded = await (await this.#findDecoder()).decode(bytes.buffer);
    return this.#toValues(decoded, rows);
  }

  #findDecoder() {
    this.#decoder ??= (async () =>
      getDecoder(this.compression, {
        tileWidth: this.blockWidth,
        tileHeight: this.blockHeight,
        // The predictor of geotiff.js counts in this machine's order of bytes.
        predictor: this.#isForeign && this.predictor === 2 ? 1 : this.predictor,
        bitsPerSample: Array(this.samples).fill(this.bits),
        planarConfiguration: this.isPlanar ? 2 : 1,
        samplesPerPixel: this.blockSamples,
        JPEGTables: await this.#directory.values(TAGS.JPEGTables),
        LercParameters: await this.#directory.values(TAGS.LercParameters),
        maxBytes: this.blockBytes,
      }).catch(() => {
        throw new Error(`Images that are compressed by method ${this.compression} cannot be shown.`);
      }))();
    return this.#decoder;
  }

  #toValues(buffer, rows) {
    const count = this.blockWidth * rows * this.blockSamples;
    if (buffer.byteLength < this.rowBytes * rows) {
      throw new Error("A piece of the image is shorter than it should be: the file is cut or damaged.");
    }
    if (this.bits < 8) {
      return this.#unpack(new Uint8Array(buffer), rows);
    }
    if (this.format === 3 && this.bits === 16) {
      return toFloats(buffer, count, this.#isLittle || this.predictor === 3);
    }
    // What comes out of LERC and of the predictor of floating point is in this machine's order already.
    const isForeign = this.#isForeign && this.predictor !== 3 && this.compression !== 34887;
    const values = new this.array(isForeign ? swapped(buffer, this.bits / 8) : buffer, 0, count);
    if (isForeign && this.predictor === 2) {
      addUp(values, this.blockWidth * this.blockSamples, this.blockSamples);
    }
    return values;
  }

  // Returns values of 1, 2 or 4 bits, each row of which begins with a byte.
  #unpack(bytes, rows) {
    const perRow = this.blockWidth * this.blockSamples;
    const values = new Uint8Array(perRow * rows);
    const mask = 2 ** this.bits - 1;
    for (let row = 0; row < rows; row += 1) {
      for (let index = 0; index < perRow; index += 1) {
        const bit = index * this.bits;
        values[row * perRow + index] = (bytes[row * this.rowBytes + (bit >> 3)] >> (8 - this.bits - (bit & 7))) & mask;
      }
    }
    return values;
  }
}

function isSide(number) {
  return Number.isInteger(number) && number >= 1 && number < MAX_SIDE;
}

// Returns how many pixels a JPEG says that it has, in the frame header that it begins with.
function jpegPixels(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 2;
  while (at + 9 < bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return view.getUint16(at + 5) * view.getUint16(at + 7);
    }
    at += 2 + view.getUint16(at + 2);
  }
  return 0;
}

function swapped(buffer, size) {
  const bytes = new Uint8Array(buffer).slice();
  for (let at = 0; at + size <= bytes.length; at += size) {
    bytes.subarray(at, at + size).reverse();
  }
  return bytes.buffer;
}

// Undoes the differences between neighbours in each row (TIFF 6, section 14).
function addUp(values, perRow, samples) {
  for (let row = 0; row < values.length; row += perRow) {
    for (let index = row + samples; index < row + perRow; index += 1) {
      values[index] += values[index - samples];
    }
  }
}

function toFloats(buffer, count, isLittle) {
  const view = new DataView(buffer);
  return Float32Array.from({ length: count }, (_, index) => {
    const half = view.getUint16(index * 2, isLittle);
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    if (exponent === 31) {
      return fraction ? NaN : sign * Infinity;
    }
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : (2 ** -14 * fraction) / 1024);
  });
}
