// Rice compression as FITS has it (FITS Standard 4.0, section 10.4.1): differences of neighbours, in blocks, each with its
// own number of low bits.

const CODES = {
  1: { bits: 3, largest: 6, wrap: (value) => value & 0xff },
  2: { bits: 4, largest: 14, wrap: (value) => (value << 16) >> 16 },
  4: { bits: 5, largest: 25, wrap: (value) => value | 0 },
};

// Returns `count` values of `size` bytes each.
export function decodeRice(bytes, count, size, blockPixels) {
  const { bits, largest, wrap } = CODES[size];
  const values = new Float64Array(count);
  let last = 0;
  for (let index = 0; index < size; index += 1) {
    last = (last << 8) | bytes[index];
  }
  last = wrap(last);
  let position = size;
  let held = 0; // Bits that were taken from the bytes, and how many.
  let heldBits = 0;

  const take = () => {
    if (position >= bytes.length) {
      throw new Error("A compressed tile ends too early.");
    }
    position += 1;
    return bytes[position - 1];
  };
  const readBits = (wanted) => {
    let result = 0;
    let missing = wanted;
    while (missing > 0) {
      if (heldBits === 0) {
        held = take();
        heldBits = 8;
      }
      const taken = Math.min(missing, heldBits);
      heldBits -= taken;
      result = (result << taken) | (held >>> heldBits);
      held &= (1 << heldBits) - 1;
      missing -= taken;
    }
    return result >>> 0;
  };
  const readZeros = () => {
    let zeros = 0;
    while (held === 0) {
      zeros += heldBits;
      held = take();
      heldBits = 8;
    }
    const leading = Math.clz32(held) - 32 + heldBits;
    heldBits -= leading + 1;
    held &= (1 << heldBits) - 1;
    return zeros + leading;
  };

  for (let start = 0; start < count; start += blockPixels) {
    const stop = Math.min(start + blockPixels, count);
    const low = readBits(bits) - 1;
    for (let index = start; index < stop; index += 1) {
      if (low >= 0) {
        const coded = low === largest ? readBits(8 * size) : ((readZeros() << low) | readBits(low)) >>> 0;
        last = wrap(last + (coded & 1 ? ~(coded >>> 1) : coded >>> 1));
      }
      values[index] = last;
    }
  }
  return values;
}
