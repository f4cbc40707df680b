// Tables of FITS files: binary ones (FITS Standard 4.0, section 7.3) and those of text (7.2).

import { shortest } from "../common/values.js";
import { READERS } from "./pixels.js";

const MAX_FIELDS = 999;
const SHOWN_ELEMENTS = 8;

// What a binary table's codes have: bytes an element, and how one is read.
const CODES = {
  L: { size: 1, read: (view, offset) => ({ 84: true, 70: false })[view.getUint8(offset)] ?? null },
  X: { size: 1 / 8 },
  B: { size: 1, read: READERS[8], isNumber: true },
  I: { size: 2, read: READERS[16], isNumber: true },
  J: { size: 4, read: READERS[32], isNumber: true },
  K: { size: 8, read: (view, offset) => view.getBigInt64(offset), isNumber: true },
  A: { size: 1 },
  E: { size: 4, read: READERS[-32], isNumber: true, isReal: true },
  D: { size: 8, read: READERS[-64], isNumber: true, isReal: true },
  C: { size: 8 },
  M: { size: 16 },
  P: { size: 8 },
  Q: { size: 16 },
};

const decoder = new TextDecoder("latin1");

// Returns the columns of a binary table: {name, type, isNumber, read(row)} and, for those whose data lie in the heap,
// readDescriptor(row) and heapSize.
export function columnsOf(header) {
  const columns = [];
  let offset = 0;
  const count = header.count("TFIELDS");
  if (count > MAX_FIELDS) {
    throw new Error(`The table has ${count} columns, more than the ${MAX_FIELDS} that FITS allows.`);
  }
  for (let index = 1; index <= count; index += 1) {
    const column = makeColumn(header, index, offset);
    columns.push(column);
    offset += column.size;
  }
  if (offset > header.count("NAXIS1")) {
    throw new Error(`The table's columns need ${offset} bytes, and its rows have ${header.count("NAXIS1")}.`);
  }
  return columns;
}

function makeColumn(header, index, offset) {
  const format = header.text(`TFORM${index}`);
  const parsed = /^(\d*)([LXBIJKAEDCMPQ])(.?)/.exec(format);
  if (parsed === null) {
    throw new Error(`The table's TFORM${index} is “${format}”, which FITS does not have.`);
  }
  const [, repeat, letter, element] = parsed;
  const count = repeat === "" ? 1 : Number(repeat);
  const code = CODES[letter];
  const size = Math.ceil(code.size * count);
  const view = (row) => new DataView(row.buffer, row.byteOffset + offset, size);
  const column = {
    name: header.text(`TTYPE${index}`) || `column ${index}`,
    type: [format, header.text(`TUNIT${index}`)].filter(Boolean).join(" · "),
    isNumber: code.isNumber === true && count === 1,
    size,
    read: () => undefined,
  };
  if (letter === "A") {
    column.read = (row) => decoder.decode(row.subarray(offset, offset + count)).split("\0", 1)[0].trimEnd();
  } else if (code.read !== undefined && count > 0) {
    const scaled = scaler(header, index, code);
    column.readNumber = (row) => Number(code.read(view(row), 0));
    column.read = (row) => {
      const bytes = view(row);
      if (count === 1) {
        return scaled(code.read(bytes, 0));
      }
      const shown = Array.from({ length: Math.min(count, SHOWN_ELEMENTS) }, (_, element) => String(scaled(code.read(bytes, element * code.size)) ?? "null"));
      return `[${shown.join(", ")}${count > SHOWN_ELEMENTS ? `, … ${count} values` : ""}]`;
    };
  } else if ((letter === "P" || letter === "Q") && count > 0) {
    column.heapSize = Math.max(1, CODES[element]?.size ?? 1);
    column.readDescriptor = (row) => {
      const bytes = view(row);
      const read = letter === "P" ? (place) => bytes.getUint32(4 * place) : (place) => Number(bytes.getBigUint64(8 * place));
      return { count: read(0), offset: read(1) };
    };
  }
  return column;
}

// Returns a function that gives a stored value as it is meant: scaled, or null.
function scaler(header, index, code) {
  const [factor, zero] = [header.number(`TSCAL${index}`, 1), header.number(`TZERO${index}`, 0)];
  const blank = code.isReal ? NaN : header.number(`TNULL${index}`);
  return (stored) => {
    if (typeof stored === "boolean" || stored === null || Number(stored) === blank) {
      return typeof stored === "boolean" ? stored : null;
    }
    if (typeof stored === "bigint") {
      return factor === 1 && Number.isInteger(zero) ? stored + BigInt(zero) : Number(stored) * factor + zero;
    }
    const value = factor === 1 && zero === 0 ? stored : stored * factor + zero;
    return code.isReal && code.size === 4 && factor === 1 && zero === 0 ? shortest(value) : value;
  };
}

// Returns the columns of a table of text.
export function textColumnsOf(header) {
  const width = header.count("NAXIS1");
  return Array.from({ length: Math.min(header.count("TFIELDS"), MAX_FIELDS) }, (_, position) => {
    const index = position + 1;
    const format = header.text(`TFORM${index}`);
    const parsed = /^([AIFED])(\d+)/.exec(format);
    const start = header.count(`TBCOL${index}`) - 1;
    if (parsed === null || start < 0 || start + Number(parsed[2]) > width) {
      throw new Error(`The table's column ${index} cannot be read: its format is “${format}”.`);
    }
    const isNumber = parsed[1] !== "A";
    const none = header.text(`TNULL${index}`);
    return {
      name: header.text(`TTYPE${index}`) || `column ${index}`,
      type: [format, header.text(`TUNIT${index}`)].filter(Boolean).join(" · "),
      isNumber,
      read: (row) => {
        const text = decoder.decode(row.subarray(start, start + Number(parsed[2])));
        const value = isNumber ? text.trim() : text.trimEnd();
        return none !== "" && text.trim() === none.trim() ? null : value;
      },
    };
  });
}
