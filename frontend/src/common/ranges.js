// A file that is read by byte ranges: in blocks that are kept, each asked for once, and all of one version.

import { explain } from "./answers.js";
import { splitByteRanges } from "./multipart.js";
import { countBytes } from "./page.js";

const BLOCK_BYTES = 65536;
const KEPT_BLOCKS = 1024;

// One request asks for so many ranges and bytes at most; relays and servers refuse header fields of 8 kB and more.
const MAX_RANGES = 280;
const MAX_RANGE_CHARACTERS = 6500;
const REQUEST_BYTES = 1024 * 1024;
const REQUESTS_AT_A_TIME = 4;

// About what the head of one more part of an answer costs.
const GAP_BYTES = 256;

// What is read as a whole where a server sends no parts, as of compressed members of an archive.
const WHOLE_BYTES = 64 * 1024 * 1024;

export class RangeFile {
  #url;
  #etag = null;
  #blocks = new Map();

  // `size` is known once `open` has returned.
  size = 0;
  contentType = "";

  constructor(url) {
    this.#url = url;
  }

  // Reads the first block, and with it the size and the entity tag.
  static async open(url, { firstBytes = BLOCK_BYTES } = {}) {
    const file = new RangeFile(url);
    await file.#open(Math.ceil(firstBytes / BLOCK_BYTES));
    return file;
  }

  // Returns the bytes from `start` on, `length` of them, or fewer where the file ends.
  async read(start, length, { signal } = {}) {
    const stop = Math.min(start + length, this.size);
    if (!(start >= 0 && length >= 0)) {
      throw new RangeError(`There is nothing at ${start}.`);
    }
    const result = new Uint8Array(Math.max(0, stop - start));
    const blocks = await this.#find(Math.floor(start / BLOCK_BYTES), Math.ceil(stop / BLOCK_BYTES), signal);
    for (const [number, block] of blocks) {
      const offset = number * BLOCK_BYTES;
      const from = Math.max(start, offset);
      const to = Math.min(stop, offset + block.length);
      result.set(block.subarray(from - offset, to - offset), from - start);
    }
    return result;
  }

  // Reads many spans, [start, length] each, which are wholly within the file, and nothing around them; calls
  // `take(index, bytes)` for each as it comes.
  async readParts(spans, take, { signal } = {}) {
    const requests = planRequests(spans);
    const work = async () => {
      for (let request = requests.shift(); request !== undefined; request = requests.shift()) {
        await this.#readRuns(request, spans, take, signal);
      }
    };
    await Promise.all(Array.from({ length: REQUESTS_AT_A_TIME }, work));
  }

  // Returns the bytes of one span, and reads nothing around it.
  async readPart(start, length, { signal } = {}) {
    let found = new Uint8Array(0);
    const stop = Math.min(start + length, this.size);
    if (stop > start) {
      await this.readParts([[start, stop - start]], (_, bytes) => (found = bytes), { signal });
    }
    return found;
  }

  async #readRuns(runs, spans, take, signal) {
    const answer = await this.#ask(runs.map(({ start, stop }) => `${start}-${stop - 1}`).join(","), signal);
    if (answer.status !== 206) {
      await answer.body?.cancel();
      throw new Error("The file, or what is in front of its server, does not give parts of it.");
    }
    const body = new Uint8Array(await answer.arrayBuffer());
    countBytes(body.length);
    const parts = splitByteRanges(body, answer.headers);
    for (const { start, stop, members } of runs) {
      const part = parts.find((each) => each.start <= start && each.start + each.bytes.length >= stop);
      if (part === undefined) {
        throw new Error("The server has not sent what it was asked for; load this page again.");
      }
      for (const index of members) {
        const offset = spans[index][0] - part.start;
        take(index, part.bytes.subarray(offset, offset + spans[index][1]));
      }
    }
  }

  async #open(count) {
    const answer = await this.#fetch(0, count * BLOCK_BYTES - 1);
    if (answer.status === 416) {
      return; // The file is empty.
    }
    if (answer.status === 200 && Number(answer.headers.get("Content-Length")) > WHOLE_BYTES) {
      await answer.body.cancel();
      throw new Error("The server sends this file only as a whole, which is too much for a preview.");
    }
    this.#etag = answer.headers.get("ETag");
    this.contentType = answer.headers.get("Content-Type") ?? "";
    const body = new Uint8Array(await answer.arrayBuffer());
    countBytes(body.length);
    const total = /\/(\d+)$/.exec(answer.headers.get("Content-Range") ?? "");
    this.size = answer.status === 206 && total ? Number(total[1]) : body.length;
    this.#keep(0, body);
  }

  // Returns the blocks from one number up to another, without it; neighbours that are missing are read in one request.
  async #find(first, last, signal) {
    const found = [];
    const missing = [];
    for (let number = first; number < last; number += 1) {
      const block = this.#blocks.get(number);
      if (block === undefined) {
        const run = missing.at(-1);
        if (run && run.stop === number) {
          run.stop = number + 1;
        } else {
          missing.push({ start: number, stop: number + 1 });
        }
      } else {
        this.#blocks.delete(number); // To the end: it was used last.
        this.#blocks.set(number, block);
        found.push([number, block]);
      }
    }
    const pending = missing.map(({ start, stop }) => this.#load(start, stop, signal));
    for (let index = 0; index < missing.length; index += 1) {
      // Where a signal ends one reader, others may still wait for the same blocks: each has its own request then.
      if (signal === undefined) {
        this.#promise(missing[index], pending[index]);
      }
    }
    const loaded = await Promise.all([...found.map(async ([number, block]) => [[number, await block]]), ...pending]);
    return loaded.flat();
  }

  #promise({ start, stop }, loading) {
    for (let number = start; number < stop; number += 1) {
      const block = loading.then((blocks) => blocks.find(([found]) => found === number)[1]);
      block.catch(() => this.#blocks.delete(number)); // To be asked for again.
      this.#blocks.set(number, block);
    }
  }

  async #load(start, stop, signal) {
    const answer = await this.#fetch(start * BLOCK_BYTES, Math.min(stop * BLOCK_BYTES, this.size) - 1, signal);
    if (answer.status !== 206) {
      throw new Error("The file has changed while it was read; load this page again.");
    }
    const body = new Uint8Array(await answer.arrayBuffer());
    countBytes(body.length);
    return this.#keep(start, body);
  }

  #fetch(first, last, signal) {
    return this.#ask(`${first}-${last}`, signal);
  }

  async #ask(ranges, signal) {
    const headers = { Range: `bytes=${ranges}` };
    if (this.#etag !== null) {
      headers["If-Match"] = this.#etag;
    }
    const answer = await fetch(this.#url, { headers, signal, cache: "no-store" });
    if (answer.status === 412) {
      throw new Error("The file has changed while it was read; load this page again.");
    }
    if (!answer.ok && answer.status !== 416) {
      throw await explain(answer, "The file");
    }
    return answer;
  }

  #keep(start, body) {
    const blocks = [];
    for (let offset = 0; offset < body.length; offset += BLOCK_BYTES) {
      const number = start + offset / BLOCK_BYTES;
      const block = body.subarray(offset, offset + BLOCK_BYTES);
      blocks.push([number, block]);
      this.#blocks.set(number, block);
    }
    while (this.#blocks.size > KEPT_BLOCKS) {
      this.#blocks.delete(this.#blocks.keys().next().value);
    }
    return blocks;
  }
}

// Returns requests for spans: lists of runs, each of spans that touch or lie so close that one part is cheaper.
function planRequests(spans) {
  const order = spans.map((_, index) => index).sort((one, other) => spans[one][0] - spans[other][0]);
  const runs = [];
  for (const index of order) {
    const [start, length] = spans[index];
    const run = runs.at(-1);
    if (run && start <= run.stop + GAP_BYTES && Math.max(run.stop, start + length) - run.start <= REQUEST_BYTES) {
      run.stop = Math.max(run.stop, start + length);
      run.members.push(index);
    } else {
      runs.push({ start, stop: start + length, members: [index] });
    }
  }
  const requests = [];
  let [bytes, characters] = [Infinity, 0];
  for (const run of runs) {
    const length = `${run.start}-${run.stop},`.length;
    bytes += run.stop - run.start;
    characters += length;
    if (bytes > REQUEST_BYTES || characters > MAX_RANGE_CHARACTERS || requests.at(-1).length === MAX_RANGES) {
      requests.push([]);
      [bytes, characters] = [run.stop - run.start, length];
    }
    requests.at(-1).push(run);
  }
  return requests;
}
