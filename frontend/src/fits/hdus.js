// The parts of a FITS file, one after the other: each has a header and data.

import { BLOCK_BYTES, readHeader } from "./header.js";

const MAX_AXES = 16;

// Yields the parts, {index, header, kind, name, dataStart, dataBytes} each, as their headers are read.
export async function* walk(file) {
  let offset = 0;
  for (let index = 0; index === 0 || offset < file.size; index += 1) {
    const header = await readHeader(file, offset);
    if (header === null) {
      if (index === 0) {
        throw new Error("This is no FITS file: it does not begin with SIMPLE.");
      }
      return; // What comes after the last part is nobody's.
    }
    const dataStart = offset + header.size;
    const dataBytes = measureData(header);
    yield { index, header, kind: kindOf(header), name: nameOf(header, index), dataStart, dataBytes };
    offset = dataStart + Math.ceil(dataBytes / BLOCK_BYTES) * BLOCK_BYTES;
  }
}

// Returns the lengths of the axes, the fastest first.
export function axesOf(header, prefix = "") {
  const count = header.count(`${prefix}NAXIS`);
  if (count > MAX_AXES) {
    throw new Error(`The header has ${count} axes, more than the ${MAX_AXES} that a preview looks at.`);
  }
  return Array.from({ length: count }, (_, axis) => header.count(`${prefix}NAXIS${axis + 1}`));
}

function measureData(header) {
  const axes = axesOf(header);
  if (axes.length === 0) {
    return 0;
  }
  const isGroups = axes[0] === 0 && header.isTrue("GROUPS");
  const values = (isGroups ? axes.slice(1) : axes).reduce((product, length) => product * length, 1);
  const size = (bitsOf(header) / 8) * header.count("GCOUNT", 1) * (header.count("PCOUNT", 0) + values);
  if (!Number.isSafeInteger(size)) {
    throw new Error(`The header says that the data has ${axes.join(" × ")} values, more than any file can have.`);
  }
  return size;
}

function bitsOf(header) {
  const bits = header.number("BITPIX");
  if (![8, 16, 32, 64, -32, -64].includes(bits)) {
    throw new Error(`The header's BITPIX is ${bits}, which FITS does not have.`);
  }
  return Math.abs(bits);
}

function kindOf(header) {
  const extension = header.text("XTENSION", "IMAGE");
  if (extension === "BINTABLE" || extension === "A3DTABLE") {
    return header.isTrue("ZIMAGE") ? "compressed" : "table";
  }
  if (extension === "TABLE") {
    return "text-table";
  }
  if (extension !== "IMAGE" && extension !== "IUEIMAGE") {
    return "other";
  }
  const axes = axesOf(header);
  return axes.length > 0 && axes.every((length) => length > 0) ? "image" : "empty";
}

function nameOf(header, index) {
  const name = header.text("EXTNAME") || (index === 0 ? "PRIMARY" : "");
  return header.has("EXTVER") ? `${name},${header.number("EXTVER")}` : name;
}
