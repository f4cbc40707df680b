// Parquet: of the rows that are shown those pages of those columns are read that hold them.

import { parquetMetadataAsync, parquetReadObjects, parquetSchema } from "hyparquet";
import { parquetHeader } from "hyparquet/src/column.js";
import { compressors } from "hyparquet-compressors";

const BLOCK_BYTES = 65536; // What is read at a time.
const MAX_FOOTER_BYTES = 64 * 1024 * 1024;
const MAX_PAGE_BYTES = 256 * 1024 * 1024;

// Chunks of columns up to this are read whole.
const SMALL_BYTES = 2 * BLOCK_BYTES;

const HEADER_BYTES = 8192; // Almost every page's header has fewer.

const NUMBERS = ["INT32", "INT64", "FLOAT", "DOUBLE"];

export class ParquetTable {
  #file;
  #buffer;
  #metadata;

  static async open(file) {
    const tail = await file.read(Math.max(0, file.size - 8), 8);
    if (tail.length < 8 || String.fromCharCode(...tail.subarray(4)) !== "PAR1") {
      throw new Error("The file begins as Parquet does and does not end so: it is cut.");
    }
    const footerBytes = new DataView(tail.buffer, tail.byteOffset).getUint32(0, true);
    if (footerBytes > Math.min(MAX_FOOTER_BYTES, file.size - 8)) {
      throw new Error(`The file's description has ${footerBytes} bytes, more than a preview reads.`);
    }
    const made = new ParquetTable();
    made.#file = file;
    made.#buffer = {
      byteLength: file.size,
      slice: async (start, end = file.size) => (await file.read(start, end - start)).buffer,
    };
    made.#metadata = await understand(() => parquetMetadataAsync(made.#buffer, { initialFetchSize: Math.min(BLOCK_BYTES, file.size) }));
    made.rowCount = made.#metadata.row_groups.reduce((sum, group) => sum + Number(group.num_rows), 0);
    if (!Number.isSafeInteger(made.rowCount) || made.#metadata.row_groups.some((group) => group.num_rows < 0n)) {
      throw new Error("The file's description says how many rows there are, and that is no number of rows.");
    }
    made.columns = parquetSchema(made.#metadata).children.map(describe);
    made.groupCount = made.#metadata.row_groups.length;
    made.writer = made.#metadata.created_by ?? "";
    return made;
  }

  // Returns what compresses a column, as its first chunk says.
  codecOf(name) {
    return this.#chunksOf(this.#metadata.row_groups[0], name)[0]?.codec ?? "";
  }

  // Reads rows of columns, in order, as long as this costs less than `budget` bytes: {rows, unread, unreadBytes}.
  // Of columns that cost too much the cells are undefined.
  async read(columns, first, count, budget) {
    const stop = Math.min(first + count, this.rowCount);
    const groups = this.#groupsOf(first, stop);
    const trimmed = new Map(); // From a chunk to how many of its bytes are needed.
    const chosen = [];
    const unread = [];
    let spent = 0;
    let unreadBytes = 0;
    for (const column of columns) {
      const chunks = groups.flatMap(({ group, rows }) => this.#chunksOf(group, column.name).map((chunk) => ({ chunk, rows })));
      let cost = 0;
      for (const { chunk, rows } of chunks) {
        const needed = spent + cost > budget ? Infinity : await this.#measure(chunk, column.isFlat ? rows : Infinity, budget - spent - cost);
        trimmed.set(chunk, needed);
        cost += needed;
      }
      if (spent + cost <= budget) {
        chosen.push(column.name);
        spent += cost;
      } else {
        unread.push(column.name);
        unreadBytes += chunks.reduce((sum, { chunk }) => sum + Number(chunk.total_compressed_size), 0);
      }
    }
    const found = chosen.length === 0 ? [] : await this.#readObjects(chosen, first, stop, trimmed);
    const rows = Array.from({ length: stop - first }, (_, index) => columns.map(({ name }) => (chosen.includes(name) ? (found[index]?.[name] ?? null) : undefined)));
    return { rows, unread, unreadBytes };
  }

  #readObjects(columns, rowStart, rowEnd, trimmed) {
    const shorten = (column) => {
      const needed = trimmed.get(column.meta_data);
      return needed === undefined || needed === Infinity ? column : { ...column, meta_data: { ...column.meta_data, total_compressed_size: BigInt(needed) } };
    };
    const metadata = { ...this.#metadata, row_groups: this.#metadata.row_groups.map((group) => ({ ...group, columns: group.columns.map(shorten) })) };
    return understand(() => parquetReadObjects({ file: this.#buffer, metadata, columns, rowStart, rowEnd, compressors, utf8: false }));
  }

  // Returns the groups that have rows from `first` to `stop`, and how many of each must be gone through.
  #groupsOf(first, stop) {
    const found = [];
    let start = 0;
    for (const group of this.#metadata.row_groups) {
      const end = start + Number(group.num_rows);
      if (end > first && start < stop) {
        found.push({ group, rows: Math.min(end, stop) - start });
      }
      start = end;
    }
    return found;
  }

  #chunksOf(group, name) {
    return (group?.columns ?? []).map((column) => column.meta_data).filter((chunk) => chunk?.path_in_schema[0] === name);
  }

  // Returns how many bytes of a chunk hold its first `rows`; it stops to count where these are more than `most`.
  async #measure(chunk, rows, most) {
    const start = Number(chunk.dictionary_page_offset || chunk.data_page_offset);
    const total = Number(chunk.total_compressed_size);
    if (!(start >= 4 && total >= 0 && start + total <= this.#file.size)) {
      throw new Error("The file is cut, or its description is wrong: a column lies beyond its end.");
    }
    if (rows === Infinity || total <= SMALL_BYTES) {
      return total;
    }
    let counted = 0;
    let length = 0;
    let isAhead = false;
    while (counted < rows && length < total && length <= most) {
      const { header, size } = await this.#readPageHeader(start + length);
      const { compressed_page_size: packed, uncompressed_page_size: unpacked } = header;
      if (!(packed >= 0 && packed <= total && unpacked >= 0 && unpacked <= MAX_PAGE_BYTES)) {
        throw new Error("The file has a page of a size that cannot be.");
      }
      counted += header.data_page_header?.num_values ?? header.data_page_header_v2?.num_rows ?? 0;
      length += size + packed;
      // Of many pages one may say how much all will be, and these are then read together.
      const expected = counted > 0 ? Math.min(total, Math.ceil((length * rows) / counted)) : length;
      if (expected > 4 * length && expected > most) {
        return expected;
      }
      if (expected > 4 * length && !isAhead) {
        isAhead = true;
        await this.#file.read(start, expected);
      }
    }
    return Math.min(length, total);
  }

  async #readPageHeader(position) {
    for (const length of [HEADER_BYTES, 16 * BLOCK_BYTES]) {
      const bytes = await this.#file.read(position, length);
      const reader = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset: 0 };
      try {
        return { header: parquetHeader(reader), size: reader.offset };
      } catch (error) {
        if (!(error instanceof RangeError)) { // It goes on behind what was read.
          throw new Error(`This Parquet file cannot be read: ${error.message}`, { cause: error });
        }
      }
    }
    throw new Error("The file has a page whose description is too long.");
  }
}

// Tells the library's errors from those of reading, which have their own sentence.
async function understand(work) {
  try {
    return await work();
  } catch (error) {
    const isOwn = /changed while it was read|cannot be read|give parts/.test(error.message) || error instanceof TypeError && /fetch/i.test(error.message);
    throw isOwn ? error : new Error(`This Parquet file cannot be understood: ${error.message}`, { cause: error });
  }
}

function describe({ element, children }) {
  const kind = element.logical_type?.type ?? element.converted_type ?? element.type ?? "STRUCT";
  const isMarked = element.logical_type !== undefined || element.converted_type !== undefined;
  const isInteger = /^(U?INT|INTEGER|DECIMAL)/.test(kind);
  return {
    name: element.name,
    type: children.length > 0 && !isMarked ? "struct" : String(kind).toLowerCase(),
    isNumber: children.length === 0 && NUMBERS.includes(element.type) && (!isMarked || isInteger),
    isFlat: children.length === 0 && element.repetition_type !== "REPEATED",
    isOptional: element.repetition_type === "OPTIONAL",
  };
}
