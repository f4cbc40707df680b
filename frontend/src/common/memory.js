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
