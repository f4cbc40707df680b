// Shows PMTiles on a map: images as they are, vector tiles in a colour for each layer.

import L from "leaflet";
import { TileType } from "pmtiles";
import { recall, recallNumbers, remember } from "../common/address.js";
import { tick } from "../common/forms.js";
import { Kept } from "../common/kept.js";
import { element, factList, formatBytes, say } from "../common/page.js";
import { isDark, onThemeChange } from "../common/theme.js";
import { openArchive } from "./archive.js";
import { DrawnLayer, makeMap, makePanel, watchLayer } from "./frame.js";
import { nameDegrees } from "./graticule.js";
import { drawFeatures, isAt, readTile } from "./vector.js";

const MEDIA_TYPES = {
  [TileType.Png]: "image/png",
  [TileType.Jpeg]: "image/jpeg",
  [TileType.Webp]: "image/webp",
  [TileType.Avif]: "image/avif",
};

// Told apart with any eyes, on light and dark (https://www.nature.com/articles/nmeth.1618, and some between).
const INKS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#3aa0dd", "#7a5cc4", "#c2334d", "#5b8c2a", "#6b7a89"];

const INKS_ON_DARK = ["#56b4e9", "#ff9a4d", "#2fd1a0", "#f0a6d0", "#e0c341", "#8fd0ff", "#b7a2f5", "#ff8a98", "#a6d477", "#b3c0cc"];

const MAX_TILE_SIDE = 4096;
const KEPT_TILES = 128;
const OVERZOOM = 5;
const FEATURES_TOLD = 25;
const LATITUDE = 85.0511;

export async function showArchive(file) {
  const { archive, header } = await openArchive(file);
  const isVector = header.tileType === TileType.Mvt;
  if (!isVector && !(header.tileType in MEDIA_TYPES)) {
    throw new Error("The tiles of this PMTiles file are neither images nor Mapbox vector tiles.");
  }
  const problems = new Set();
  const { metadata, note } = await readMetadata(archive, header);
  const tiles = new Tiles(archive, header, isVector);
  const map = makeMap({
    crs: L.CRS.EPSG3857,
    world: {
      isDegrees: true,
      isPlane: true,
      limits: [-180, -LATITUDE, 180, LATITUDE],
      toGeo: ({ lat, lng }) => [lng, lat],
      toMap: (x, y) => L.latLng(y, x),
      format: ({ lat, lng }) => `${nameDegrees(1, lat, 5)}, ${nameDegrees(0, lng, 5)}`,
    },
    bounds: boundsOf(header),
    minZoom: Math.max(0, header.minZoom - 3),
    maxZoom: Math.min(26, header.maxZoom + OVERZOOM),
    label: `Map of the tiles, zoom ${header.minZoom} to ${header.maxZoom}`,
    tell: async () => `zoom ${recallNumbers("at", 3)?.[2] ?? ""}`,
  });
  const layer = new DrawnLayer(
    (canvas, coords, signal) => tiles.draw(canvas, coords, signal),
    (error) => problems.add(error.message),
    { noWrap: true, minZoom: 0, maxZoom: 30, bounds: [[-LATITUDE, -180], [LATITUDE, 180]] },
  );
  const drawn = watchLayer(map, layer);
  const sentence = () => [note, ...[...problems].slice(0, 1).map((each) => `Some of it cannot be shown: ${each}`)].filter(Boolean).join(" ");
  if (isVector) {
    showLayers(tiles, layer, map);
    showFeatures(tiles, map);
  }
  layer.addTo(map);
  layer.on("load", () => say(document.documentElement.dataset.state, sentence()));
  makePanel("About", describe(header, metadata, file)).open = false;
  const attribution = plainText(metadata.attribution);
  if (attribution) {
    document.getElementById("facts").textContent = `${formatBytes(file.size)} · ${attribution}`;
  }
  await drawn;
  if (tiles.drawn === 0 && problems.size > 0) {
    throw new Error([...problems][0]);
  }
  return sentence();
}

async function readMetadata(archive, { jsonMetadataLength }) {
  try {
    const metadata = jsonMetadataLength > 0 ? await archive.getMetadata() : {};
    return { metadata: metadata !== null && typeof metadata === "object" ? metadata : {}, note: "" };
  } catch (error) {
    return { metadata: {}, note: `Its metadata cannot be read: ${error.message}` };
  }
}

function boundsOf({ minLon, minLat, maxLon, maxLat }) {
  const isSound = minLon < maxLon && minLat < maxLat && minLon >= -180 && maxLon <= 180 && minLat >= -90 && maxLat <= 90;
  const [south, north] = isSound ? [Math.max(minLat, -LATITUDE), Math.min(maxLat, LATITUDE)] : [-LATITUDE, LATITUDE];
  return L.latLngBounds([south, isSound ? minLon : -180], [north, isSound ? maxLon : 180]);
}

function describe(header, metadata, file) {
  const degrees = (value) => Number(value.toFixed(5));
  const { minLon, minLat, maxLon, maxLat } = header;
  return factList([
    ["Name", plainText(metadata.name)],
    ["Description", plainText(metadata.description)],
    ["Attribution", plainText(metadata.attribution)],
    ["Tiles", `${TileType[header.tileType]}, ${header.numAddressedTiles.toLocaleString("en")}`],
    ["Zoom", `${header.minZoom} to ${header.maxZoom}`],
    ["West, south", `${degrees(minLon)}°, ${degrees(minLat)}°`],
    ["East, north", `${degrees(maxLon)}°, ${degrees(maxLat)}°`],
    ["File", formatBytes(file.size)],
  ]);
}

// Returns the text of what may be HTML; nothing of it is run or loaded.
function plainText(value) {
  if (typeof value !== "string") {
    return "";
  }
  const { body } = new DOMParser().parseFromString(value.slice(0, 20000), "text/html");
  body.querySelectorAll("script, style").forEach((each) => each.remove());
  return body.textContent.trim().slice(0, 2000);
}

class Tiles {
  drawn = 0;
  layers = new Map();
  hidden = new Set((recall("hidden") ?? "").split("\n").filter(Boolean));
  #archive;
  #header;
  #isVector;
  #kept = new Kept(KEPT_TILES);

  constructor(archive, header, isVector) {
    this.#archive = archive;
    this.#header = header;
    this.#isVector = isVector;
  }

  // Draws a tile of the map; beyond the zoom levels of the file, a part of a tile of its last one.
  async draw(canvas, coords, signal) {
    const { x, y, z, parts, left, top } = this.#find(coords);
    const tile = await this.read(z, x, y, signal);
    signal.throwIfAborted();
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (tile === null) {
      return;
    }
    this.drawn += 1;
    const side = canvas.width * parts;
    if (this.#isVector) {
      for (const layer of tile) {
        if (!this.hidden.has(layer.name)) {
          drawFeatures(context, layer.features, {
            scale: side / layer.extent,
            shiftX: -left * canvas.width,
            shiftY: -top * canvas.height,
            colour: this.inkOf(layer.name),
            density: canvas.width / 256,
          });
        }
      }
    } else {
      context.imageSmoothingEnabled = parts === 1;
      context.drawImage(tile, -left * canvas.width, -top * canvas.height, side, side);
    }
  }

  inkOf(name) {
    const inks = isDark() ? INKS_ON_DARK : INKS;
    return inks[this.layers.get(name) % inks.length];
  }

  #find({ x, y, z }) {
    const parts = 2 ** Math.max(0, z - this.#header.maxZoom);
    const [column, row] = [Math.floor(x / parts), Math.floor(y / parts)];
    return { x: column, y: row, z: Math.min(z, this.#header.maxZoom), parts, left: x - column * parts, top: y - row * parts };
  }

  // Returns an image, or the layers of a vector tile, or null where there is none.
  read(z, x, y, signal) {
    return this.#kept.get(`${z}/${x}/${y}`, () => this.#load(z, x, y, signal));
  }

  async #load(z, x, y, signal) {
    if (z < this.#header.minZoom || x < 0 || y < 0 || x >= 2 ** z || y >= 2 ** z) {
      return null;
    }
    const found = await this.#archive.getZxy(z, x, y, signal);
    if (found === undefined || found.data.byteLength === 0) {
      return null;
    }
    if (!this.#isVector) {
      return decodeImage(found.data, MEDIA_TYPES[this.#header.tileType]);
    }
    const layers = readTile(new Uint8Array(found.data));
    for (const { name } of layers) {
      if (!this.layers.has(name)) {
        this.layers.set(name, this.layers.size);
      }
    }
    return layers;
  }

  // Returns the vector tiles of the map's view that have been read, as [layers, ...].
  async inView(map) {
    const z = Math.round(map.getZoom());
    const bounds = map.getPixelBounds(map.getCenter(), z);
    const seen = new Map();
    for (let x = Math.floor(bounds.min.x / 256); x <= Math.floor(bounds.max.x / 256); x += 1) {
      for (let y = Math.floor(bounds.min.y / 256); y <= Math.floor(bounds.max.y / 256); y += 1) {
        const { x: column, y: row, z: level } = this.#find({ x, y, z });
        const key = `${level}/${column}/${row}`;
        const tile = await this.#kept.peek(key)?.catch(() => null);
        if (tile) {
          seen.set(key, tile);
        }
      }
    }
    return [...seen.values()];
  }

  // Returns the features at a place of the map.
  async at(map, place) {
    const z = Math.round(map.getZoom());
    const point = map.project(place, z).divideBy(256);
    const { x, y, z: level, parts, left, top } = this.#find({ x: Math.floor(point.x), y: Math.floor(point.y), z });
    const tile = await this.read(level, x, y);
    const [inX, inY] = [(left + point.x - Math.floor(point.x)) / parts, (top + point.y - Math.floor(point.y)) / parts];
    return (tile ?? [])
      .filter(({ name }) => !this.hidden.has(name))
      .flatMap((layer) => {
        const reach = (layer.extent * 6) / 256 / parts;
        return layer.features
          .filter((feature) => isAt(feature, inX * layer.extent, inY * layer.extent, reach))
          .map((feature) => ({ layer: layer.name, feature }));
      });
  }
}

async function decodeImage(data, type) {
  const view = new DataView(data);
  const isPng = data.byteLength > 24 && view.getUint32(0) === 0x89504e47;
  if (isPng && (view.getUint32(16) > MAX_TILE_SIDE || view.getUint32(20) > MAX_TILE_SIDE)) {
    throw new Error(`A tile says that it has ${view.getUint32(16)} × ${view.getUint32(20)} pixels, too many for a tile.`);
  }
  try {
    return await createImageBitmap(new Blob([data], { type }));
  } catch {
    throw new Error("A tile is no image that the browser can show.");
  }
}

// Lists the layers that have been met, with their colours and how many of their features are in the view.
function showLayers(tiles, layer, map) {
  const list = element("div", { role: "group", "aria-label": "Layers" });
  makePanel("Layers", list);
  const update = async () => {
    const counts = new Map();
    for (const tile of await tiles.inView(map)) {
      for (const { name, features } of tile) {
        counts.set(name, (counts.get(name) ?? 0) + features.length);
      }
    }
    for (const name of tiles.layers.keys()) {
      let row = [...list.children].find((each) => each.name === name);
      if (row === undefined) {
        const swatch = element("span", { className: "swatch", "aria-hidden": "true" });
        const label = tick(name, !tiles.hidden.has(name), (isShown) => {
          tiles.hidden[isShown ? "delete" : "add"](name);
          remember({ hidden: tiles.hidden.size ? [...tiles.hidden].join("\n") : null });
          layer.repaint();
        });
        label.firstChild.after(swatch);
        row = element("div", { className: "layer" }, label, element("span", { className: "count" }));
        row.name = name;
        list.append(row);
      }
      row.querySelector(".swatch").style.background = tiles.inkOf(name);
      row.lastChild.textContent = (counts.get(name) ?? 0).toLocaleString("en");
    }
  };
  layer.on("load", update);
  onThemeChange(() => layer.repaint());
  map.on("moveend", update);
}

// Tells the properties of what is clicked on, or of what is at the cross when Enter is pressed.
function showFeatures(tiles, map) {
  const list = element("div", { role: "status", className: "features" });
  const hint = element("p", { className: "hint" }, "Click on the map, or press Enter for what is at the cross.");
  list.append(hint);
  const panel = makePanel("Features", list);
  const show = async (place) => {
    const found = await tiles.at(map, place).catch(() => []);
    panel.open = true;
    list.replaceChildren(
      ...(found.length === 0 ? [element("p", { className: "hint" }, "Nothing is here.")] : []),
      ...found.slice(0, FEATURES_TOLD).map(({ layer, feature }) => {
        const rows = feature.properties().map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, String(value))));
        return element("table", {}, element("caption", {}, layer), element("tbody", {}, ...rows));
      }),
      ...(found.length > FEATURES_TOLD ? [element("p", { className: "hint" }, `… and ${found.length - FEATURES_TOLD} more`)] : []),
    );
  };
  map.on("click", (event) => show(event.latlng));
  map.getContainer().addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === map.getContainer()) {
      event.preventDefault();
      show(map.getCenter());
    }
  });
}
