// A file that is in memory, as of what was compressed as a whole; it reads as a RangeFile does.

export class MemoryFile {
  #bytes;

  constructor(bytes) {
    this.#bytes = bytes;
    this.size = bytes.length;
  }

  async read(start, length) {
    return this.#bytes.subarray(start, start + length);
  }

  async readPart(start, length) {
    return this.#bytes.subarray(start, start + length);
  }

  async readParts(spans, take) {
    spans.forEach(([start, length], index) => take(index, this.#bytes.subarray(start, start + length)));
  }
}

// Returns what gzip made `bytes` of; refuses what grows to more than `limit`.
export async function gunzip(bytes, limit) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  const chunks = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      break;
    }
    size += value.length;
    if (size > limit) {
      await reader.cancel();
      throw new Error(`Uncompressed this has more than ${limit / 2 ** 20} MiB, too much for a preview.`);
    }
    chunks.push(value);
  }
  const whole = new Uint8Array(size);
  let position = 0;
  for (const chunk of chunks) {
    whole.set(chunk, position);
    position += chunk.length;
  }
  return whole;
}
