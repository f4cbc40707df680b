// Tables of text, as CSV and TSV are: read from the beginning, as far as somebody wants.

import Papa from "papaparse";

export const DELIMITERS = { ",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "space" };

const GUESSED_FROM = [",", "\t", ";", "|"];
const CHUNK_BYTES = 1024 * 1024;
const MAX_ROW_CHARACTERS = 8 * 1024 * 1024;
const MAX_BYTES = 128 * 1024 * 1024;
const MAX_COLUMNS = 10_000;

// So many rows say what the columns hold.
const LOOKED_AT = 1000;

const NUMBER = /^\s*[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?\s*$|^\s*[+-]?(nan|inf|infinity)\s*$/i;

export class TextTable {
  #file;
  #position = 0;
  #decoder = null;
  #rest = "";
  #parser = null;

  rows = [];
  delimiter;

  // `delimiter` is one of DELIMITERS; without it it is guessed.
  constructor(file, delimiter) {
    this.#file = file;
    this.delimiter = delimiter;
  }

  get isWhole() {
    return this.#position >= this.#file.size;
  }

  get mayReadMore() {
    return !this.isWhole && this.#position < MAX_BYTES;
  }

  get readBytes() {
    return this.#position;
  }

  async readMore() {
    const before = this.rows.length;
    do {
      const bytes = await this.#file.read(this.#position, CHUNK_BYTES);
      this.#decoder ??= new TextDecoder(encodingOf(bytes));
      this.#position += bytes.length;
      const text = this.#rest + this.#decoder.decode(bytes, { stream: !this.isWhole });
      this.#parser ??= this.#makeParser(text);
      const { data, meta } = this.#parser.parse(text, 0, !this.isWhole);
      this.#rest = text.slice(meta.cursor);
      for (const row of data) {
        if (row.length > 1 || row[0] !== "") {
          this.rows.push(row);
        }
      }
      if (this.#rest.length > MAX_ROW_CHARACTERS && !this.isWhole) {
        throw new Error("A row of the table has more than 8 million characters: a quotation mark may be open, or this is no table.");
      }
    } while (this.rows.length === before && !this.isWhole);
  }

  #makeParser(text) {
    const comments = text.startsWith("#") ? "#" : false;
    const { meta } = Papa.parse(text.slice(0, 65536), { preview: 20, comments, delimitersToGuess: GUESSED_FROM });
    this.delimiter ??= meta.delimiter;
    return new Papa.Parser({ delimiter: this.delimiter, newline: meta.linebreak, comments });
  }

  // Whether the first row has the columns' names: as far as one can see.
  guessHeader() {
    const [first, ...others] = this.rows.slice(0, LOOKED_AT);
    if (first === undefined || others.length === 0 || first.some((cell) => cell.trim() === "" || NUMBER.test(cell))) {
      return false;
    }
    return new Set(first).size === first.length && first.every((cell, index) => others.every((row) => row[index] !== cell));
  }

  // Returns the columns: {name, index, isNumber}.
  describe(hasHeader) {
    const looked = this.rows.slice(Number(hasHeader), LOOKED_AT);
    const count = Math.min(MAX_COLUMNS, this.rows.slice(0, LOOKED_AT).reduce((most, row) => Math.max(most, row.length), 0));
    return Array.from({ length: count }, (_, index) => {
      const filled = looked.map((row) => row[index] ?? "").filter((cell) => cell.trim() !== "");
      return {
        name: (hasHeader && this.rows[0][index]) || `column ${index + 1}`,
        index,
        isNumber: filled.length > 0 && filled.every((cell) => NUMBER.test(cell)),
      };
    });
  }
}

function encodingOf([first, second]) {
  if (first === 0xff && second === 0xfe) {
    return "utf-16le";
  }
  return first === 0xfe && second === 0xff ? "utf-16be" : "utf-8";
}
