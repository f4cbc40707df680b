// Decoders for TIFF in place of some of geotiff.js: those of zstd and LERC fetch their code from a data: URL, as the
// page's policy forbids, and that of deflate takes memory for whatever a tile says it is.

import { BaseDecoder, addDecoder } from "geotiff";
import { checkSize, unpackStream, unpackZstd } from "../common/unpack.js";

addDecoder([8, 32946], async () => Deflate);
addDecoder(50000, async () => Zstd);
addDecoder(34887, async () => {
  const { default: Lerc } = await import("lerc");
  return class extends LercDecoder {
    lerc = Lerc;
  };
});

class Deflate extends BaseDecoder {
  async decodeBlock(buffer) {
    return (await unpackStream(buffer, "deflate", this.parameters.maxBytes)).buffer;
  }
}

class Zstd extends BaseDecoder {
  async decodeBlock(buffer) {
    return (await unpackZstd(new Uint8Array(buffer), this.parameters.maxBytes)).buffer;
  }
}

const DEFLATE = 1;
const ZSTD = 2;

class LercDecoder extends BaseDecoder {
  async decodeBlock(buffer) {
    const { LercParameters, maxBytes, planarConfiguration, tileWidth, tileHeight } = this.parameters;
    const blob = await unpackLerc(new Uint8Array(buffer), LercParameters?.[1], maxBytes * 2);
    checkSize(lercPixels(blob), tileWidth * tileHeight);
    return this.lerc.decode(blob, { returnPixelInterleavedDims: planarConfiguration === 1 }).pixels[0].buffer;
  }
}

async function unpackLerc(bytes, packed, maxBytes) {
  switch (packed) {
    case DEFLATE:
      return (await unpackStream(bytes, "deflate", maxBytes)).buffer;
    case ZSTD:
      return (await unpackZstd(bytes, maxBytes)).buffer;
    default:
      return bytes.buffer;
  }
}

// Returns how many pixels a blob of LERC 2 says that it has.
function lercPixels(buffer) {
  const view = new DataView(buffer);
  const at = view.getInt32(6, true) >= 3 ? 14 : 10;
  return view.getUint32(at, true) * view.getUint32(at + 4, true);
}
