// An image that is kept as compressed tiles in a table (FITS Standard 4.0, section 10): RICE_1, GZIP_1 and GZIP_2.

import { unpackStream, unshuffle } from "../common/unpack.js";
import { axesOf } from "./hdus.js";
import { decodeValues, makeScale } from "./pixels.js";
import { decodeRice } from "./rice.js";
import { columnsOf } from "./tables.js";

const MAX_TILE_PIXELS = 2 ** 24;
const MAX_TILE_BYTES = 2 ** 27;
const NO_VALUE = -2147483648; // What quantised values have for NaN where the header names nothing else,
const EXACT_ZERO = -2147483646; // and for 0 with the second kind of dithering.

const METHODS = ["RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "NOCOMPRESS"];

export class CompressedImage {
  #file;
  #header;
  #dataStart;
  #heapStart;
  #rowBytes;
  #rowCount;
  #columns;
  #tile;
  #grid;
  #bits;
  #method;
  #scale;
  #meanTileBytes;

  // All rows of a tile are read together, and tiles are read whole.
  canSkip = false;

  constructor(file, { header, dataStart, dataBytes }) {
    this.#file = file;
    this.#header = header;
    this.#dataStart = dataStart;
    this.#method = header.text("ZCMPTYPE");
    if (!METHODS.includes(this.#method)) {
      throw new Error(`The image is compressed by ${this.#method || "a method without a name"}; a preview knows RICE_1, GZIP_1 and GZIP_2.`);
    }
    this.axes = axesOf(header, "Z");
    this.width = this.axes[0];
    this.height = this.axes[1] ?? 1;
    this.#tile = this.axes.map((length, axis) => Math.min(header.count(`ZTILE${axis + 1}`, axis === 0 ? length : 1), length));
    if (this.#tile.some((length) => length < 1) || this.#tile.reduce((product, length) => product * length, 1) > MAX_TILE_PIXELS) {
      throw new Error(`The image has tiles of ${this.#tile.join(" × ")} pixels, which a preview does not read.`);
    }
    this.#grid = this.axes.map((length, axis) => Math.ceil(length / this.#tile[axis]));
    this.#bits = header.number("ZBITPIX");
    if (![8, 16, 32, 64, -32, -64].includes(this.#bits)) {
      throw new Error(`The header's ZBITPIX is ${this.#bits}, which FITS does not have.`);
    }
    this.#scale = makeScale(header, this.#bits, header.has("ZBLANK") ? "ZBLANK" : "BLANK");
    this.#rowBytes = header.count("NAXIS1");
    this.#rowCount = header.count("NAXIS2");
    this.#heapStart = dataStart + header.count("THEAP", this.#rowBytes * this.#rowCount);
    this.#columns = new Map(columnsOf(header).map((column) => [column.name, column]));
    this.#meanTileBytes = this.#rowBytes + header.count("PCOUNT", 0) / Math.max(1, this.#rowCount);
    this.rowsTogether = this.#tile[1] ?? 1;
    if (this.#grid.reduce((product, length) => product * length, 1) > this.#rowCount) {
      throw new Error("The image has fewer tiles than its size needs.");
    }
    if (dataStart + dataBytes > file.size) {
      throw new Error("The file is cut: compressed tiles are missing at its end.");
    }
  }

  measureRows(x0, x1) {
    const tiles = Math.ceil(x1 / this.#tile[0]) - Math.floor(x0 / this.#tile[0]);
    return tiles * this.#meanTileBytes;
  }

  async fill(layer, plane, { signal, progress = () => {} } = {}) {
    const wanted = this.#chooseTiles(layer, plane);
    const rows = new Array(wanted.length);
    const spans = wanted.map(({ number }) => [this.#dataStart + number * this.#rowBytes, this.#rowBytes]);
    await this.#file.readParts(spans, (index, bytes) => (rows[index] = bytes), { signal });
    const sources = rows.map((row) => this.#findData(row));
    const pending = [];
    const take = (index, bytes) => {
      pending.push(this.#decode(wanted[index], rows[index], sources[index].column, bytes).then((values) => {
        this.#add(layer, wanted[index], values);
        progress();
      }));
    };
    await this.#file.readParts(sources.map(({ start, length }) => [start, length]), take, { signal });
    await Promise.all(pending);
  }

  // Returns the tiles that a layer needs: {number, x, width, y, height, offset, rows}, where `rows` are those of the layer.
  #chooseTiles(layer, plane) {
    const [tileWidth, tileHeight = 1] = this.#tile;
    let within = 0; // Where in its tiles the plane lies.
    let above = 0; // The number of the plane of tiles.
    for (let axis = this.axes.length - 1; axis >= 2; axis -= 1) {
      const place = plane[axis - 2] ?? 0;
      above = above * this.#grid[axis] + Math.floor(place / this.#tile[axis]);
      const depth = Math.min(this.#tile[axis], this.axes[axis] - Math.floor(place / this.#tile[axis]) * this.#tile[axis]);
      within = within * depth + (place % this.#tile[axis]);
    }
    const depth = this.#depthOf(plane);
    const chosen = new Map();
    for (let index = 0; index < layer.rows; index += 1) {
      const row = layer.rowOf(index);
      const tileRow = Math.floor(row / tileHeight);
      if (!chosen.has(tileRow)) {
        chosen.set(tileRow, []);
      }
      chosen.get(tileRow).push([index, row]);
    }
    const tiles = [];
    for (const [tileRow, rows] of chosen) {
      const y = tileRow * tileHeight;
      const height = Math.min(tileHeight, this.height - y);
      for (let column = Math.floor(layer.x0 / tileWidth); column < Math.ceil(layer.x1 / tileWidth); column += 1) {
        const x = column * tileWidth;
        const width = Math.min(tileWidth, this.width - x);
        const number = (above * (this.#grid[1] ?? 1) + tileRow) * this.#grid[0] + column;
        tiles.push({ number, x, width, y, height, offset: within * width * height, pixels: width * height * depth, rows });
      }
    }
    return tiles;
  }

  // How many planes the tiles around a plane have.
  #depthOf(plane) {
    let depth = 1;
    for (let axis = 2; axis < this.axes.length; axis += 1) {
      const first = Math.floor((plane[axis - 2] ?? 0) / this.#tile[axis]) * this.#tile[axis];
      depth *= Math.min(this.#tile[axis], this.axes[axis] - first);
    }
    return depth;
  }

  #add(layer, { x, width, y, offset, rows }, values) {
    const from = Math.max(x, layer.x0);
    const to = Math.min(x + width, layer.x1);
    for (const [index, row] of rows) {
      const start = offset + (row - y) * width;
      layer.add(index, from, values.subarray(start + from - x, start + to - x));
    }
  }

  // Returns where a tile's bytes are: in the first column that has some.
  #findData(row) {
    for (const name of ["COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA"]) {
      const column = this.#columns.get(name);
      if (column !== undefined) {
        const { count, offset } = column.readDescriptor(row);
        const length = count * column.heapSize;
        if (length > 0) {
          const start = this.#heapStart + offset;
          if (length > MAX_TILE_BYTES || !Number.isSafeInteger(start) || start + length > this.#file.size) {
            throw new Error("A compressed tile lies beyond the end of the file.");
          }
          return { start, length, column };
        }
      }
    }
    throw new Error("A compressed tile has no data.");
  }

  #valueOf(row, name) {
    const column = this.#columns.get(name);
    return column === undefined ? this.#header.number(name) : column.readNumber(row);
  }

  async #decode({ number, pixels }, row, column, bytes) {
    const factor = this.#valueOf(row, "ZSCALE");
    const isQuantised = this.#bits < 0 && column.name === "COMPRESSED_DATA" && !Number.isNaN(factor);
    const values = await this.#unpack(bytes, pixels, column, isQuantised);
    if (values.length < pixels) {
      throw new Error("A compressed tile has fewer pixels than it should.");
    }
    if (isQuantised) {
      const blank = this.#columns.has("ZBLANK") || this.#header.has("ZBLANK") ? this.#valueOf(row, "ZBLANK") : NO_VALUE;
      dequantise(values, factor, this.#valueOf(row, "ZZERO"), blank, this.#header.text("ZQUANTIZ"), number + this.#header.number("ZDITHER0", 1) - 1);
      return values;
    }
    return this.#scale(values);
  }

  async #unpack(bytes, pixels, column, isQuantised) {
    if (column.name === "UNCOMPRESSED_DATA" || this.#method === "NOCOMPRESS") {
      return decodeValues(bytes, this.#bits);
    }
    if (column.name === "COMPRESSED_DATA" && this.#method.startsWith("RICE")) {
      const size = this.#option("BYTEPIX", this.#bits > 0 ? this.#bits / 8 : 4);
      if (![1, 2, 4].includes(size)) {
        throw new Error(`The image has Rice-compressed values of ${size} bytes, which a preview does not read.`);
      }
      return decodeRice(bytes, pixels, size, Math.max(1, this.#option("BLOCKSIZE", 32)));
    }
    const bits = isQuantised ? 32 : this.#bits;
    const size = Math.abs(bits) / 8;
    const unpacked = await unpackStream(bytes, "gzip", pixels * 8);
    return decodeValues(column.name === "COMPRESSED_DATA" && this.#method === "GZIP_2" ? unshuffle(unpacked, size) : unpacked, bits);
  }

  #option(name, otherwise) {
    for (let index = 1; this.#header.has(`ZNAME${index}`); index += 1) {
      if (this.#header.text(`ZNAME${index}`) === name) {
        return this.#header.count(`ZVAL${index}`);
      }
    }
    return otherwise;
  }
}

let noise = null;

// The random numbers of the standard (appendix I).
function makeNoise() {
  if (noise === null) {
    noise = new Float64Array(10_000);
    let seed = 1;
    for (let index = 0; index < noise.length; index += 1) {
      seed = (16807 * seed) % 2147483647;
      noise[index] = seed / 2147483647;
    }
  }
  return noise;
}

function dequantise(values, factor, zero, blank, method, start) {
  const isDithered = method.startsWith("SUBTRACTIVE_DITHER");
  const random = makeNoise();
  let seed = ((start % random.length) + random.length) % random.length;
  let next = Math.floor(random[seed] * 500);
  for (let index = 0; index < values.length; index += 1) {
    const stored = values[index];
    if (stored === blank) {
      values[index] = NaN;
    } else if (!isDithered) {
      values[index] = stored * factor + zero;
    } else if (stored === EXACT_ZERO && method === "SUBTRACTIVE_DITHER_2") {
      values[index] = 0;
    } else {
      values[index] = (stored - random[next] + 0.5) * factor + zero;
    }
    next += 1;
    if (next === random.length) {
      seed = (seed + 1) % random.length;
      next = Math.floor(random[seed] * 500);
    }
  }
}
