// Reads the files of a Zarr hierarchy: metadata, chunks and parts of shards, each no larger than it should be.

import { explain, readBody } from "../common/answers.js";
import { formatBytes } from "../common/page.js";
import { Pieces } from "../common/queue.js";
import { isBelow } from "../common/source.js";

const MAX_JSON_BYTES = 64 * 1024 * 1024;
const KEPT_BYTES = 128 * 1024 * 1024;

const kept = new Pieces(KEPT_BYTES);

// Returns the URL of a file in a folder by its path; throws where that leads out of it.
export function resolve(folder, path) {
  const url = new URL(path.split("/").filter(Boolean).map(encodeURIComponent).join("/"), folder);
  if (!isBelow(url, folder) || path.split("/").some((name) => name === ".." || name === ".")) {
    throw new Error(`“${path}” is no path of this folder.`);
  }
  return url;
}

// Returns what a JSON file says, or null where there is none.
export async function readJson(url) {
  const answer = await fetch(url);
  if (answer.status === 404) {
    return null;
  }
  if (!answer.ok) {
    throw await explain(answer, `“${url.pathname}”`);
  }
  const text = new TextDecoder().decode(await readBody(answer, MAX_JSON_BYTES, "The metadata"));
  try {
    // Zarr 2 writes NaN and Infinity as they are, which no JSON has.
    return JSON.parse(text.replace(/(:\s*)(NaN|-?Infinity)(?=\s*[,}\]])/g, '$1"$2"'));
  } catch (error) {
    throw new Error(`The metadata of this Zarr is no JSON: ${error.message}`);
  }
}

// The store of one array, as zarrita asks for it.
export class ArrayStore {
  #folder;
  #known;
  #maxBytes;
  #etags = new Map();

  // `known` has the metadata by name, and no piece may have more than `maxBytes`.
  constructor(folder, known, maxBytes) {
    this.#folder = folder;
    this.#known = known;
    this.#maxBytes = maxBytes;
  }

  async get(key, { signal } = {}) {
    const name = key.slice(1);
    if (/(^|\/)(zarr\.json|\.z(array|attrs|group))$/.test(name)) {
      return name in this.#known ? new TextEncoder().encode(JSON.stringify(this.#known[name])) : undefined;
    }
    return this.#read(name, null, signal);
  }

  async getRange(key, range, { signal } = {}) {
    const wanted = "suffixLength" in range ? range.suffixLength : range.length;
    if (!(wanted <= this.#maxBytes)) {
      throw new Error(`A part of a shard should have ${formatBytes(wanted)}: the file is damaged, or its parts are too large.`);
    }
    const text = "suffixLength" in range ? `bytes=-${wanted}` : `bytes=${range.offset}-${range.offset + wanted - 1}`;
    return wanted === 0 ? new Uint8Array() : this.#read(key.slice(1), text, signal);
  }

  #read(name, range, signal) {
    const url = resolve(this.#folder, name);
    const load = (given) => this.#fetch(url, range, given);
    return kept.get(`${url} ${range}`, load, (bytes) => bytes?.length ?? 1, signal);
  }

  async #fetch(url, range, signal) {
    const headers = range === null ? {} : { Range: range };
    if (range !== null && this.#etags.has(url.href)) {
      headers["If-Match"] = this.#etags.get(url.href);
    }
    const answer = await fetch(url, { headers, signal, cache: "no-cache" });
    if (answer.status === 404) {
      return undefined; // Chunks that have the fill value only need not be there.
    }
    if (answer.status === 412) {
      throw new Error("The array has changed while it was read; load this page again.");
    }
    if (!answer.ok) {
      throw await explain(answer, "A chunk");
    }
    if (range !== null && answer.status !== 206) {
      await answer.body.cancel();
      throw new Error("The server sends the shards of this array only as a whole, which is too much for a preview.");
    }
    this.#etags.set(url.href, answer.headers.get("ETag"));
    return readBody(answer, this.#maxBytes, "A file of this Zarr");
  }
}
