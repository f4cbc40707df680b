// Unpacking of what a file holds, up to a size that is known before: a few packed bytes may say that they are terabytes.

import { formatBytes } from "./page.js";
import { join, readStream } from "./streams.js";

// Returns the bytes that `format` (of DecompressionStream) makes of `bytes`, at most `maxBytes`.
export async function unpackStream(bytes, format, maxBytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format));
  return readStream(stream, maxBytes, () => tooLarge(maxBytes));
}

// Returns the bytes that zstd makes of `bytes`, at most `maxBytes`.
export async function unpackZstd(bytes, maxBytes) {
  const size = zstdSize(bytes);
  checkSize(size, maxBytes);
  const { ZSTDDecoder } = await import("zstddec/stream");
  const zstd = new ZSTDDecoder();
  await zstd.init();
  if (size > 0) {
    const unpacked = zstd.decode(bytes, size);
    if (unpacked.length !== size) {
      throw new Error("What is packed there with zstd is damaged.");
    }
    return unpacked;
  }
  const pieces = [];
  let sum = 0;
  for (const piece of zstd.decodeStreaming([bytes])) {
    if (piece.length === 0 && pieces.at(-1)?.length === 0) {
      throw new Error("What is packed there with zstd is damaged."); // It goes no further.
    }
    pieces.push(piece);
    sum += piece.length;
    checkSize(sum, maxBytes);
  }
  return join(pieces, sum);
}

// Puts together values of `size` bytes of which all first bytes come first, then all second ones, and so on; what is left
// at the end stays as it is.
export function unshuffle(bytes, size, target = new Uint8Array(bytes.length)) {
  const count = Math.floor(bytes.length / size);
  for (let byte = 0; byte < size; byte += 1) {
    for (let index = 0; index < count; index += 1) {
      target[index * size + byte] = bytes[byte * count + index];
    }
  }
  target.set(bytes.subarray(count * size), count * size);
  return target;
}

export function checkSize(size, maxBytes) {
  if (size > maxBytes) {
    throw tooLarge(maxBytes);
  }
}

// Returns the size that a zstd frame says it has unpacked (RFC 8878, section 3.1.1), 0 where it does not say so.
function zstdSize(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.byteLength < 18 || view.getUint32(0, true) !== 0xfd2fb528) {
    return 0;
  }
  const flags = view.getUint8(4);
  const isSingle = (flags & 32) !== 0;
  const at = 5 + (isSingle ? 0 : 1) + [0, 1, 2, 4][flags & 3];
  switch (flags >> 6) {
    case 0:
      return isSingle ? view.getUint8(at) : 0;
    case 1:
      return view.getUint16(at, true) + 256;
    case 2:
      return view.getUint32(at, true);
    default:
      return Number(view.getBigUint64(at, true));
  }
}

function tooLarge(maxBytes) {
  return new Error(`What is packed there is larger than ${formatBytes(maxBytes)}: the file is damaged, or too large for a preview.`);
}
