// Colour maps, each by 17 colours with straight lines between them; viridis, magma, inferno and cividis are those of matplotlib.

const MAPS = {
  gray: ["000000", "ffffff"],
  viridis: ["440154", "48186a", "472d7b", "424086", "3b528b", "33638d", "2c728e", "26828e", "21918c",
    "1fa088", "28ae80", "3fbc73", "5ec962", "84d44b", "addc30", "d8e219", "fde725"],
  magma: ["000004", "0a0822", "1d1147", "36106b", "51127c", "6a1c81", "832681", "9c2e7f", "b73779",
    "d0416f", "e75263", "f56b5c", "fc8961", "fea772", "fec488", "fde2a3", "fcfdbf"],
  inferno: ["000004", "0b0724", "210c4a", "3d0965", "57106e", "71196e", "8a226a", "a32c61", "bc3754",
    "d24644", "e45a31", "f1731d", "f98e09", "fcac11", "f9cb35", "f2ea69", "fcffa4"],
  cividis: ["00224e", "002e6a", "1a386f", "32436d", "434e6c", "535a6d", "61656f", "6f7073", "7d7c78",
    "8c8878", "9b9476", "aba072", "bcae6c", "cdbb63", "dec958", "f0d846", "fee838"],
  heat: ["000000", "550000", "aa0000", "ff0000", "ff5500", "ffaa00", "ffff00", "ffff80", "ffffff"],
  "blue to red": ["2166ac", "67a9cf", "d1e5f0", "f7f7f7", "fddbc7", "ef8a62", "b2182b"],
};

export const COLOUR_MAPS = Object.keys(MAPS);

// Returns 256 colours as the numbers that an ImageData has.
export function makeColours(name, isInverted) {
  const anchors = MAPS[name].map((colour) => [0, 2, 4].map((place) => parseInt(colour.slice(place, place + 2), 16)));
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let index = 0; index < 256; index += 1) {
    const place = ((isInverted ? 255 - index : index) / 255) * (anchors.length - 1);
    const below = Math.min(Math.floor(place), anchors.length - 2);
    const share = place - below;
    for (let channel = 0; channel < 3; channel += 1) {
      bytes[4 * index + channel] = anchors[below][channel] * (1 - share) + anchors[below + 1][channel] * share;
    }
    bytes[4 * index + 3] = 255;
  }
  return new Uint32Array(bytes.buffer);
}
