// Pixels as numbers: big-endian values of FITS, scaled, NaN where there is none.

export const READERS = {
  8: (view, offset) => view.getUint8(offset),
  16: (view, offset) => view.getInt16(offset),
  32: (view, offset) => view.getInt32(offset),
  64: (view, offset) => Number(view.getBigInt64(offset)),
  [-32]: (view, offset) => view.getFloat32(offset),
  [-64]: (view, offset) => view.getFloat64(offset),
};

// Returns how values of a header's kind are read: a function of bytes that returns a Float64Array.
export function makeDecoder(header, bits) {
  const scale = makeScale(header, bits, "BLANK");
  return (bytes) => scale(decodeValues(bytes, bits));
}

// Returns the values in `bytes`, as they are stored.
export function decodeValues(bytes, bits) {
  const read = READERS[bits];
  const size = Math.abs(bits) / 8;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Float64Array(Math.floor(bytes.length / size));
  for (let index = 0; index < values.length; index += 1) {
    values[index] = read(view, index * size);
  }
  return values;
}

// Returns a function that scales stored values in place.
export function makeScale(header, bits, blankKeyword) {
  const factor = header.number("BSCALE", 1);
  const zero = header.number("BZERO", 0);
  const blank = bits > 0 ? header.number(blankKeyword) : NaN;
  if (factor === 1 && zero === 0 && Number.isNaN(blank)) {
    return (values) => values;
  }
  return (values) => {
    for (let index = 0; index < values.length; index += 1) {
      values[index] = values[index] === blank ? NaN : values[index] * factor + zero;
    }
    return values;
  };
}
