// One array: what it is, and windows of it, with what they cost before they are read.

import * as zarr from "zarrita";
import { formatBytes } from "../common/page.js";
import { itemBytes } from "./codecs.js";
import { ArrayStore } from "./store.js";

const MAX_CHUNK_BYTES = 1024 * 1024 * 1024;
const MAX_SHARD_PIECES = 1_000_000;

// Of one side of a window, by how many axes are shown; and how many chunks it may go through.
const MAX_SIDE = { 1: 100_000, 2: 1500 };
const MAX_CHUNKS = { 1: 512, 2: 32 };

const KINDS = { i: "int64", u: "uint64" };

export class ZarrArray {
  // Opens an array of a hierarchy; throws an Error that says why where it cannot be shown.
  static async open(node, axes) {
    const array = new ZarrArray();
    array.path = node.path;
    array.attributes = node.attributes;
    array.#describe(node, axes);
    const store = new ArrayStore(node.folder, array.known, array.chunkBytes * 2 + 16 * array.pieces + 1024 * 1024);
    try {
      array.data = await (node.version === 3 ? zarr.open.v3 : zarr.open.v2)(zarr.root(store), { kind: "array" });
    } catch (error) {
      throw new Error(`The array cannot be shown: ${error.message}`);
    }
    array.type = array.data.dtype;
    array.#checkChunks();
    return array;
  }

  // (zarrita takes a chunk that is too short for one whose last values are undefined.)
  #checkChunks() {
    const count = this.chunks.reduce((product, side) => product * side, 1);
    const getChunk = this.data.getChunk.bind(this.data);
    this.data.getChunk = async (...wanted) => {
      const chunk = await getChunk(...wanted);
      if (chunk.data.length !== count) {
        throw new Error("A chunk has fewer or more values than it should have: it is cut or damaged.");
      }
      return chunk;
    };
  }

  #describe({ known, version, attributes }, axes) {
    const metadata = version === 3 ? known["zarr.json"] : known[".zarray"];
    this.known = known;
    this.shape = metadata.shape;
    const outer = version === 3 ? metadata.chunk_grid?.configuration?.chunk_shape : metadata.chunks;
    const shards = version === 3 ? metadata.codecs?.find((codec) => codec?.name === "sharding_indexed")?.configuration : undefined;
    this.chunks = shards?.chunk_shape ?? outer;
    this.shards = shards ? outer : null;
    if (!isShape(this.shape, 0) || ![outer, this.chunks].every((each) => isShape(each, 1) && each.length === this.shape.length)) {
      throw new Error("The array's metadata gives no shape, or chunks that do not go with it.");
    }
    this.pieces = shards ? outer.reduce((product, side, axis) => product * Math.ceil(side / this.chunks[axis]), 1) : 0;
    if (this.pieces > MAX_SHARD_PIECES) {
      throw new Error(`The shards of this array have ${this.pieces.toLocaleString("en")} chunks each, too many to be looked up here.`);
    }
    this.#readType(metadata, version);
    this.chunkBytes = this.chunks.reduce((product, side) => product * side, itemBytes(this.stored));
    if (!(this.chunkBytes <= MAX_CHUNK_BYTES)) {
      throw new Error(`A chunk of this array has ${formatBytes(this.chunkBytes)}, which is too much for a preview.`);
    }
    const named = (version === 3 ? metadata.dimension_names : attributes._ARRAY_DIMENSIONS) ?? axes ?? [];
    this.names = this.shape.map((_, axis) => (typeof named[axis] === "string" && named[axis] !== "" ? named[axis] : `axis ${axis}`));
    const codecs = version === 3 ? nameCodecs(metadata.codecs) : [...(metadata.filters ?? []), metadata.compressor].map((codec) => codec?.id);
    this.codecs = codecs.filter(Boolean).join(", ") || "none";
  }

  // Finds out what the values are; times are read as the whole numbers that they are stored as.
  #readType(metadata, version) {
    const type = version === 3 ? metadata.data_type : metadata.dtype;
    const name = typeof type === "string" ? type : (type?.name ?? "struct");
    this.typeName = version === 3 ? name : Array.isArray(type) ? "struct" : String(type);
    const time = version === 2 ? /^([<>])[mM]8(\[.*\])?$/.exec(this.typeName) : null;
    if (time) {
      this.known = { ...this.known, ".zarray": { ...metadata, dtype: `${time[1]}i8`, fill_value: Number.isSafeInteger(metadata.fill_value) ? metadata.fill_value : 0 } };
      this.note = `Times (${this.typeName}) are shown as the numbers that they are stored as.`;
    } else if (version === 3 && /^numpy\.(datetime64|timedelta64)$/.test(name)) {
      this.known = { "zarr.json": { ...metadata, data_type: "int64", fill_value: Number.isSafeInteger(metadata.fill_value) ? metadata.fill_value : 0 } };
      this.note = `Times (${type.configuration?.unit ?? name}) are shown as the numbers that they are stored as.`;
    } else if (/struct|^\|?V|^[<>|]?c\d|^complex/.test(this.typeName)) {
      throw new Error(`Values of the type ${this.typeName} cannot be shown.`);
    }
    const two = /^[<>|]([biufUSmM])(\d+)/.exec(this.typeName);
    const bits = two && Number(two[2]) * 8;
    this.stored = version === 3 ? (time || this.note ? "int64" : name) : { b: "bool", i: `int${bits}`, u: `uint${bits}`, f: `float${bits}`, U: `v2:U${two?.[2]}`, S: `v2:S${two?.[2]}`, m: KINDS.i, M: KINDS.i }[two?.[1]] ?? "string";
  }

  get isText() {
    return this.type === "string" || this.type === "v2:object" || /^v2:[US]/.test(this.type);
  }

  // Returns how large a window can be along an axis, if as many axes are shown.
  sideOf(axis, shown) {
    return Math.min(this.shape[axis], MAX_SIDE[shown], this.chunks[axis] * MAX_CHUNKS[shown]);
  }

  // Returns how many chunks a window goes through and how many bytes they have, unpacked; `window` has [start, stop] for an axis
  // that is shown, and a number for another.
  costOf(window) {
    const chunks = window.reduce((product, each, axis) => {
      const [start, stop] = Array.isArray(each) ? each : [each, each + 1];
      return product * Math.max(0, Math.floor((stop - 1) / this.chunks[axis]) - Math.floor(start / this.chunks[axis]) + 1);
    }, 1);
    return { chunks, bytes: chunks * this.chunkBytes };
  }

  // Reads a window: { get(...indices) } by those axes that are shown, in their order.
  async read(window, signal) {
    if (this.shape.length === 0) {
      const value = await zarr.get(this.data, null, { signal });
      return { at: () => value };
    }
    const selection = window.map((each) => (Array.isArray(each) ? zarr.slice(each[0], each[1]) : each));
    const { data, stride } = await zarr.get(this.data, selection, { signal });
    const valueAt = typeof data.get === "function" ? (index) => data.get(index) : (index) => data[index];
    return { at: (...indices) => valueAt(indices.reduce((sum, index, axis) => sum + index * stride[axis], 0)) };
  }
}

function isShape(shape, least) {
  return Array.isArray(shape) && shape.length <= 32 && shape.every((side) => Number.isSafeInteger(side) && side >= least);
}

function nameCodecs(codecs) {
  return (Array.isArray(codecs) ? codecs : []).flatMap((codec) =>
    codec?.name === "sharding_indexed" ? [`sharding (${nameCodecs(codec.configuration?.codecs).join(", ")})`] : [String(codec?.name ?? codec)],
  );
}
