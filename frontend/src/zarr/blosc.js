// Blosc, version 1: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst

import { checkSize, unpackStream, unpackZstd, unshuffle } from "../common/unpack.js";

const HEAD_BYTES = 16;

const SHUFFLED = 1;
const COPIED = 2;
const BITS_SHUFFLED = 4;
const NOT_SPLIT = 16;

// A block is split by the bytes of its values where these are at most so many, and the parts at least so long.
const MAX_SPLITS = 16;
const MIN_PART_BYTES = 128;

const UNPACKERS = [
  unpackBloscLz,
  unpackLz4,
  null, // Snappy, with which nothing has been written for years.
  (bytes, size) => unpackStream(bytes, "deflate", size),
  (bytes, size) => unpackZstd(bytes, size),
];

// Returns what is packed, at most `maxBytes`.
export async function unpackBlosc(bytes, maxBytes) {
  if (bytes.length < HEAD_BYTES) {
    throw damaged();
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [flags, typeSize] = [view.getUint8(2), view.getUint8(3)];
  const [size, blockSize] = [view.getUint32(4, true), view.getUint32(8, true)];
  checkSize(size, maxBytes);
  if (flags & COPIED) {
    return checked(bytes.subarray(HEAD_BYTES, HEAD_BYTES + size), size);
  }
  const unpack = UNPACKERS[flags >> 5];
  if (!unpack) {
    throw new Error("A chunk is packed by Blosc with a compressor that is not known here.");
  }
  if (size > 0 && (blockSize === 0 || blockSize > size || HEAD_BYTES + Math.ceil(size / blockSize) * 4 > bytes.length)) {
    throw damaged();
  }
  const result = new Uint8Array(size);
  for (let block = 0; block * blockSize < size; block += 1) {
    const length = Math.min(blockSize, size - block * blockSize);
    const canSplit = !(flags & NOT_SPLIT) && typeSize <= MAX_SPLITS && blockSize / typeSize >= MIN_PART_BYTES;
    const parts = canSplit && length === blockSize ? typeSize : 1;
    const data = await readBlock(view, view.getUint32(HEAD_BYTES + block * 4, true), length, parts, unpack);
    const target = result.subarray(block * blockSize, block * blockSize + length);
    if (flags & SHUFFLED && typeSize > 1) {
      unshuffle(data, typeSize, target);
    } else if (flags & BITS_SHUFFLED && Math.floor(length / typeSize) % 8 === 0) {
      unshuffleBits(data, target, typeSize);
    } else {
      target.set(data);
    }
  }
  return result;
}

async function readBlock(view, start, length, parts, unpack) {
  const data = new Uint8Array(length);
  const partLength = Math.floor(length / parts);
  let at = start;
  for (let part = 0; part < parts; part += 1) {
    if (at + 4 > view.byteLength) {
      throw damaged();
    }
    const packedLength = view.getUint32(at, true);
    at += 4;
    if (at + packedLength > view.byteLength) {
      throw damaged();
    }
    const packed = new Uint8Array(view.buffer, view.byteOffset + at, packedLength);
    data.set(packedLength === partLength ? packed : checked(await unpack(packed, partLength), partLength), part * partLength);
    at += packedLength;
  }
  return data;
}

function unshuffleBits(data, target, typeSize) {
  const count = Math.floor(data.length / typeSize);
  const rowBytes = count / 8;
  for (let row = 0; row < typeSize * 8; row += 1) {
    const [byte, bit] = [row >> 3, row & 7];
    for (let index = 0; index < count; index += 1) {
      target[index * typeSize + byte] |= ((data[row * rowBytes + (index >> 3)] >> (index & 7)) & 1) << bit;
    }
  }
  target.set(data.subarray(count * typeSize), count * typeSize);
}

// Returns `size` bytes of a block of LZ4: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md
export function unpackLz4(bytes, size) {
  const result = new Uint8Array(size);
  let at = 0;
  let to = 0;
  const lengthOf = (start) => {
    let length = start;
    let more = start === 15 ? 255 : 0;
    while (more === 255 && at < bytes.length) {
      more = bytes[at];
      at += 1;
      length += more;
    }
    return length;
  };
  while (at < bytes.length) {
    const token = bytes[at];
    at += 1;
    const literals = lengthOf(token >> 4);
    if (at + literals > bytes.length || to + literals > size) {
      throw damaged();
    }
    result.set(bytes.subarray(at, at + literals), to);
    at += literals;
    to += literals;
    if (at >= bytes.length) {
      break;
    }
    const distance = bytes[at] | (bytes[at + 1] << 8);
    at += 2;
    to = repeat(result, to, distance, lengthOf(token & 15) + 4);
  }
  return checked(result.subarray(0, to), size);
}

function unpackBloscLz(bytes, size) {
  const result = new Uint8Array(size);
  let at = 1;
  let to = 0;
  let control = bytes[0] & 31;
  for (;;) {
    if (control >= 32) {
      let length = (control >> 5) + 2;
      let distance = (control & 31) << 8;
      let code = 255;
      if (control >> 5 === 7) {
        while (code === 255 && at < bytes.length) {
          code = bytes[at];
          at += 1;
          length += code;
        }
      }
      code = bytes[at];
      at += 1;
      if (code === 255 && distance === 31 << 8) {
        distance = ((bytes[at] << 8) | bytes[at + 1]) + 8191;
        at += 2;
      } else {
        distance += code;
      }
      to = repeat(result, to, distance + 1, length);
    } else {
      const length = control + 1;
      if (at + length > bytes.length || to + length > size) {
        throw damaged();
      }
      result.set(bytes.subarray(at, at + length), to);
      at += length;
      to += length;
    }
    if (at >= bytes.length) {
      return checked(result.subarray(0, to), size);
    }
    control = bytes[at];
    at += 1;
  }
}

// Copies what was written `distance` bytes before, which may reach into the copy itself; returns where it ends.
function repeat(result, to, distance, length) {
  if (!(distance > 0 && distance <= to && to + length <= result.length)) {
    throw damaged();
  }
  if (distance >= length) {
    result.copyWithin(to, to - distance, to - distance + length);
  } else {
    for (let index = to; index < to + length; index += 1) {
      result[index] = result[index - distance];
    }
  }
  return to + length;
}

function checked(bytes, size) {
  if (bytes.length !== size) {
    throw damaged();
  }
  return bytes;
}

function damaged() {
  return new Error("A chunk that is packed by Blosc or LZ4 is cut or damaged.");
}
