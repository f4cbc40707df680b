// Shows GeoTIFF and PMTiles on a map; which of them it is stands in the file's first bytes.

import { formatBytes, run } from "./common/page.js";
import { RangeFile } from "./common/ranges.js";

run(async (source) => {
  const file = await RangeFile.open(source);
  const head = await file.read(0, 8);
  document.getElementById("facts").textContent = formatBytes(file.size);
  const text = String.fromCharCode(...head);
  if (/^(II[*+]\0|MM\0[*+])/.test(text)) {
    const { showTiff } = await import("./map/raster.js");
    return showTiff(file);
  }
  if (text.startsWith("PMTiles")) {
    const { showArchive } = await import("./map/tiles.js");
    return showArchive(file);
  }
  throw new Error("This is neither TIFF nor PMTiles, by its first bytes.");
});
