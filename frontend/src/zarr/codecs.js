// Codecs that stop where a chunk unpacks to more than it should be, in place of zarrita's. (The modules of numcodecs for
// Blosc, LZ4 and zstd make functions of texts, besides, as the page's policy forbids.)

import { registry } from "zarrita";
import { checkSize, unpackStream, unpackZstd } from "../common/unpack.js";
import { unpackBlosc, unpackLz4 } from "./blosc.js";

const ITEM_BYTES = { bool: 1, int8: 1, uint8: 1, int16: 2, uint16: 2, float16: 2, int32: 4, uint32: 4, float32: 4 };

// What codecs that were applied before may add, and texts of no known length.
const SLACK_BYTES = 1024 * 1024;
const TEXT_BYTES = 256;

// Returns how many bytes a value of a type has.
export function itemBytes(type) {
  const text = /^v2:([US])(\d+)$/.exec(type);
  if (text) {
    return Number(text[2]) * (text[1] === "U" ? 4 : 1);
  }
  return ITEM_BYTES[type] ?? (/^u?int64$|^float64$/.test(type) ? 8 : TEXT_BYTES);
}

function register(name, make) {
  const load = async () => ({
    fromConfig(configuration, { shape, dataType }) {
      const maxBytes = shape.reduce((product, side) => product * side, itemBytes(dataType)) * 2 + SLACK_BYTES;
      return { kind: "bytes_to_bytes", decode: (bytes) => make(bytes, maxBytes, configuration) };
    },
  });
  registry.set(name, load);
  registry.set(`numcodecs.${name}`, load);
}

register("gzip", (bytes, maxBytes) => unpackStream(bytes, "gzip", maxBytes));
register("zlib", (bytes, maxBytes) => unpackStream(bytes, "deflate", maxBytes));
register("zstd", unpackZstd);
register("blosc", unpackBlosc);
register("lz4", (bytes, maxBytes) => {
  if (bytes.length < 4) {
    throw new Error("A chunk is shorter than its own head: it is cut or damaged.");
  }
  const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true); // As numcodecs puts it in front.
  checkSize(size, maxBytes);
  return unpackLz4(bytes.subarray(4), size);
});
