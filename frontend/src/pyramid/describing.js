// What pyramid a folder or a file holds: its kind, its size, and where its tiles are.
//
// All kinds end in one description: {kind, name, pattern, tile, overlap, width, height, least, levels}, where the pattern
// has {z}, {x} and {y}, and levels count from 0.

import { listFolder } from "../common/answers.js";
import { RangeFile } from "../common/ranges.js";
import { isBelow, nameOf } from "../common/source.js";

export const KINDS = { wwt: "WorldWide Telescope", dzi: "Deep Zoom (DZI)", xyz: "x, y from the top", tms: "x, y from the bottom (TMS)" };
export const MAX_LEVEL = 30;

const EXTENSIONS = ["png", "jpg", "jpeg", "webp"];
const PATTERNS = ["{z}/{x}/{y}", "{z}/{y}/{y}_{x}"];
const MAX_DESCRIPTION_BYTES = 4 * 1024 * 1024;

// Returns the address of a tile; throws where it is not below the pyramid's folder.
export function tileUrl(folder, { kind, pattern }, level, x, y) {
  const row = kind === "tms" ? 2 ** level - 1 - y : y;
  const path = pattern.replaceAll("{z}", level).replaceAll("{x}", x).replaceAll("{y}", row);
  const url = new URL(path, folder);
  // Whoever wrote the pyramid must not have this page ask for anything else, with the login of whoever looks at it.
  if (!isBelow(url, folder)) {
    throw new Error("The pyramid's tiles must lie below its folder.");
  }
  return url;
}

// Returns the folder that everything must lie below, and the description, as far as one can see what it is.
export async function describe(source) {
  const folder = new URL("./", source);
  if (source.pathname.endsWith(".wtml")) {
    return { folder, ...(await readWtml(source)) };
  }
  if (/\.(dzi|xml)$/i.test(source.pathname)) {
    return { folder, ...(await readDzi(source)) };
  }
  const tree = source.pathname.endsWith("/") ? new URL(source.pathname, source) : new URL(`${source.pathname}/`, source);
  return { folder: tree, ...((await lookAround(tree)) ?? {}) };
}

// Returns a description of squares in squares, as given by hand.
export function describeSquares({ kind, name, pattern, tile, least = 0, levels }) {
  return { kind, name, pattern, tile, overlap: 0, width: tile * 2 ** levels, height: tile * 2 ** levels, least, levels };
}

async function lookAround(folder) {
  const entries = await list(folder);
  if (entries !== null) {
    return describeEntries(folder, entries);
  }
  if (await exists(new URL("index_rel.wtml", folder))) {
    return readWtml(new URL("index_rel.wtml", folder));
  }
  for (const extension of EXTENSIONS) {
    for (const pattern of PATTERNS) {
      const squares = { kind: "xyz", name: nameOf(folder), pattern: `${pattern}.${extension}`, tile: 256, levels: 0 };
      if (await exists(tileUrl(folder, squares, 0, 0, 0))) {
        return describeSquares({ ...squares, levels: await findDepth(folder, squares) });
      }
    }
  }
  return null;
}

// Returns the names in a folder, those of folders with a slash; null where the server does not list it.
async function list(folder) {
  const entries = await listFolder(folder);
  return entries?.map(({ name, isFolder }) => (isFolder ? `${name}/` : name)) ?? null;
}

async function describeEntries(folder, names) {
  const child = (name) => new URL(encodeURIComponent(name.replace(/\/$/, "")) + (name.endsWith("/") ? "/" : ""), folder);
  const wtml = names.includes("index_rel.wtml") ? "index_rel.wtml" : names.find((name) => name.endsWith("_rel.wtml"));
  if (wtml !== undefined) {
    return readWtml(child(wtml));
  }
  const dzi = names.find((name) => name.toLowerCase().endsWith(".dzi"));
  if (dzi !== undefined) {
    return readDzi(child(dzi));
  }
  const levels = names.filter((name) => /^\d{1,2}\/$/.test(name)).map((name) => Number(name.slice(0, -1)));
  if (levels.length === 0) {
    return null;
  }
  const least = Math.min(...levels);
  const columns = (await list(child(`${least}/`))) ?? [];
  const column = columns.find((name) => /^\d+\/$/.test(name));
  const tiles = column === undefined ? [] : ((await list(new URL(`${least}/${column}`, folder))) ?? []);
  const tile = tiles.map((name) => /^(\d+)(_\d+)?\.([a-z]{3,4})$/i.exec(name)).find(Boolean);
  if (!tile) {
    return null;
  }
  const pattern = `${tile[2] === undefined ? PATTERNS[0] : PATTERNS[1]}.${tile[3]}`;
  return describeSquares({ kind: "xyz", name: nameOf(folder), pattern, tile: 256, least, levels: Math.min(Math.max(...levels), MAX_LEVEL) });
}

// Goes from the topmost tile down as long as one of a tile's four parts is there.
async function findDepth(folder, squares) {
  let [x, y] = [0, 0];
  for (let level = 1; level <= MAX_LEVEL; level += 1) {
    const parts = [[0, 0], [1, 0], [0, 1], [1, 1]].map(([right, down]) => [2 * x + right, 2 * y + down]);
    const are = await Promise.all(parts.map(([column, row]) => exists(tileUrl(folder, squares, level, column, row))));
    const found = parts[are.indexOf(true)];
    if (found === undefined) {
      return level - 1;
    }
    [x, y] = found;
  }
  return MAX_LEVEL;
}

async function exists(url) {
  return (await fetch(url, { method: "HEAD" })).ok;
}

async function readXml(url) {
  const file = await RangeFile.open(url);
  if (file.size > MAX_DESCRIPTION_BYTES) {
    throw new Error("The description of the pyramid is too large.");
  }
  return new DOMParser().parseFromString(new TextDecoder().decode(await file.read(0, file.size)), "application/xml");
}

async function readWtml(url) {
  const image = (await readXml(url)).querySelector("ImageSet");
  if (image === null) {
    throw new Error(`${nameOf(url)} describes no image.`);
  }
  // In WWT's patterns, {1} is the level, {2} the column and {3} the row.
  const pattern = (image.getAttribute("Url") ?? "").replaceAll("{1}", "{z}").replaceAll("{2}", "{x}").replaceAll("{3}", "{y}");
  const levels = Number(image.getAttribute("TileLevels") ?? NaN);
  if (!isCount(levels, 0, MAX_LEVEL)) {
    throw new Error(`${nameOf(url)} says that there are ${image.getAttribute("TileLevels")} levels of tiles.`);
  }
  return describeSquares({ kind: "wwt", name: image.getAttribute("Name") || nameOf(url), pattern, tile: 256, levels });
}

async function readDzi(url) {
  const image = (await readXml(url)).documentElement;
  const size = [...image.children].find(({ localName }) => localName === "Size");
  const [tile, overlap] = ["TileSize", "Overlap"].map((name) => Number(image.getAttribute(name) ?? NaN));
  const [width, height] = ["Width", "Height"].map((name) => Number(size?.getAttribute(name) ?? NaN));
  const format = image.getAttribute("Format") ?? "";
  if (image.localName !== "Image" || !isCount(tile, 1, 8192) || !isCount(overlap, 0, tile) || !isCount(width, 1, 2 ** MAX_LEVEL) || !isCount(height, 1, 2 ** MAX_LEVEL) || !/^[a-z0-9]{1,5}$/i.test(format)) {
    throw new Error(`${nameOf(url)} describes no Deep Zoom image that can be shown.`);
  }
  const stem = url.pathname.split("/").at(-1).replace(/\.[^.]*$/, "");
  return {
    kind: "dzi",
    name: nameOf(url),
    pattern: `${stem}_files/{z}/{x}_{y}.${format}`,
    tile,
    overlap,
    width,
    height,
    least: 0,
    levels: Math.ceil(Math.log2(Math.max(width, height))),
  };
}

export function isCount(value, least, most) {
  return Number.isInteger(value) && value >= least && value <= most;
}
