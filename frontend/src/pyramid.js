// Shows a pyramid of tiles with OpenSeadragon: of WorldWide Telescope and toasty, Deep Zoom, or by level, column and row.

import OpenSeadragon from "openseadragon";

import { recall, recallNumber, remember } from "./common/address.js";
import { button } from "./common/forms.js";
import { countBytes, element, fail, run, say } from "./common/page.js";
import { KINDS, MAX_LEVEL, describe, describeSquares, isCount, tileUrl } from "./pyramid/describing.js";

const ABSENT = "absent";
const MAX_TOP_PIXELS = 2048;

const main = document.getElementById("view");
const controls = document.getElementById("controls");

let viewer = null;
let isFirst = true;

run(async (source) => {
  main.classList.add("filled");
  main.append(element("div", { id: "viewer" }));
  const { folder, ...found } = await describe(source);
  const given = recallForm(found);
  offer(folder, found, given);
  const pyramid = given ?? (found.kind ? found : null);
  if (pyramid === null) {
    throw new Error("No pyramid was found in this folder; say above where its tiles are.");
  }
  return show(folder, pyramid);
});

// Returns what the address says of the tiles, if it does.
function recallForm(found) {
  const kind = recall("kind");
  if (!["xyz", "tms"].includes(kind)) {
    return null;
  }
  return describeSquares({
    kind,
    name: found.name ?? "Tiles",
    pattern: recall("pattern") ?? "{z}/{x}/{y}.png",
    tile: recallNumber("tile", 256, { least: 1, most: 8192 }),
    levels: Math.round(recallNumber("levels", 0, { least: 0, most: MAX_LEVEL })),
  });
}

// Offers to go about in the image, and to say what the tiles are where that was not seen.
function offer(folder, found, given) {
  const start = given ?? found;
  const kinds = Object.entries(KINDS).filter(([kind]) => kind === "xyz" || kind === "tms" || kind === found.kind);
  const kind = element("select", {}, ...kinds.map(([value, name]) => element("option", { value }, name)));
  const pattern = element("input", { type: "text", spellcheck: false, value: start.pattern ?? "{z}/{x}/{y}.png" });
  const tile = element("input", { type: "number", min: 1, max: 8192, value: start.tile ?? 256, className: "narrow" });
  const levels = element("input", { type: "number", min: 0, max: MAX_LEVEL, value: start.levels ?? 0, className: "narrow" });
  kind.value = start.kind ?? "xyz";
  const isByHand = () => kind.value === "xyz" || kind.value === "tms";
  const adapt = () => [pattern, tile, levels].forEach((field) => (field.disabled = !isByHand()));
  kind.addEventListener("change", adapt);
  adapt();
  const buttons = [
    ["−", "Zoom out", () => viewer.viewport.zoomBy(1 / 1.6)],
    ["+", "Zoom in", () => viewer.viewport.zoomBy(1.6)],
    ["All", "All of the image", () => viewer.viewport.goHome()],
    ["Full window", "Full window: Escape ends it", () => viewer.setFullScreen(!viewer.isFullPage())],
  ].map(([sign, name, act]) =>
    button(sign, name, () => {
      if (viewer !== null) {
        act();
        viewer.viewport.applyConstraints();
      }
    }),
  );
  controls.append(
    element("span", { className: "buttons", role: "group", "aria-label": "Zoom" }, ...buttons),
    element("label", {}, "Kind", kind),
    element("label", {}, "Tiles", pattern),
    element("label", {}, "Tile pixels", tile),
    element("label", {}, "Deepest level", levels),
    element("button", { type: "submit" }, "Show"),
  );
  controls.hidden = false;
  controls.addEventListener("submit", async (event) => {
    event.preventDefault();
    say("loading", "Reading …");
    try {
      let pyramid = found;
      if (isByHand()) {
        const numbers = [Number(tile.value), Number(levels.value)];
        if (!isCount(numbers[0], 1, 8192) || !isCount(numbers[1], 0, MAX_LEVEL) || !["{z}", "{x}", "{y}"].every((place) => pattern.value.includes(place))) {
          throw new Error(`Tiles need a pattern with {z}, {x} and {y}, a size from 1 to 8192 and a deepest level from 0 to ${MAX_LEVEL}.`);
        }
        pyramid = describeSquares({ kind: kind.value, name: found.name ?? "Tiles", pattern: pattern.value, tile: numbers[0], levels: numbers[1] });
      }
      remember(isByHand() ? { kind: kind.value, pattern: pattern.value, tile: tile.value, levels: levels.value } : { kind: null, pattern: null, tile: null, levels: null });
      say("ready", await show(folder, pyramid));
    } catch (error) {
      fail(error);
    }
  });
}

// Returns what the topmost tile tells: the part that has data, in units of the pyramid's side; null where it tells nothing.
async function findExtent(folder, pyramid) {
  if (pyramid.kind === "dzi" || pyramid.least > 0) {
    return null;
  }
  const answer = await fetch(tileUrl(folder, pyramid, 0, 0, 0));
  if (!answer.ok) {
    return null;
  }
  const body = await answer.blob();
  countBytes(body.size);
  const tile = await decode(body);
  const [width, height] = [tile.width, tile.height].map((length) => Math.min(length, MAX_TOP_PIXELS));
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(tile, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (data[4 * (y * width + x) + 3] > 0) {
        [left, top] = [Math.min(left, x), Math.min(top, y)];
        [right, bottom] = [Math.max(right, x + 1), Math.max(bottom, y + 1)];
      }
    }
  }
  return right === 0 ? null : new OpenSeadragon.Rect(left / width, top / height, (right - left) / width, (bottom - top) / height);
}

async function decode(body) {
  try {
    return await createImageBitmap(body);
  } catch {
    throw new Error("The topmost tile is no image that the browser can show.");
  }
}

// Fetches and decodes a tile; a pyramid has no tiles where it has no data.
async function loadTile(job) {
  try {
    const answer = await fetch(job.src, { signal: job.userData.abort.signal });
    if (answer.status === 404) {
      job.fail(ABSENT);
    } else if (!answer.ok) {
      job.fail(`status ${answer.status}`);
    } else {
      const body = await answer.blob();
      countBytes(body.size);
      job.finish(await createImageBitmap(body), null, "imageBitmap");
    }
  } catch (error) {
    job.fail(error.name === "AbortError" ? ABSENT : error.message);
  }
}

async function show(folder, pyramid) {
  tileUrl(folder, pyramid, 0, 0, 0); // It says whether the tiles lie where they may.
  const extent = await findExtent(folder, pyramid);
  const { name, width, height, tile, overlap, least, levels } = pyramid;
  document.title = `${name} · preview`;
  document.getElementById("name").textContent = name;
  document.getElementById("facts").textContent = `${width.toLocaleString("en")} × ${height.toLocaleString("en")} pixels, levels ${least} to ${levels}`;
  viewer?.destroy();
  viewer = OpenSeadragon({
    element: document.getElementById("viewer"),
    showNavigationControl: false,
    drawer: "canvas",
    maxZoomPixelRatio: 4,
    tileSources: {
      width,
      height,
      tileSize: tile,
      tileOverlap: overlap,
      minLevel: least,
      maxLevel: levels,
      getTileUrl: (level, x, y) => tileUrl(folder, pyramid, level, x, y).href,
      downloadTileStart: (job) => {
        job.userData.abort = new AbortController();
        loadTile(job);
      },
      downloadTileAbort: (job) => job.userData.abort.abort(),
    },
  });
  return new Promise((resolve, reject) => watch(viewer, pyramid, extent, resolve, reject));
}

// Tells how the tiles come: at first by `resolve` or `reject`.
function watch(shown, { name }, extent, resolve, reject) {
  let [read, failed, complete] = [0, 0, false];
  const report = () => {
    if (shown !== viewer) {
      return; // Another pyramid is shown by now.
    }
    if (failed > 0) {
      const sentence = `${failed} of ${read + failed} tiles could not be read.`;
      fail(sentence);
      reject(new Error(sentence));
    } else {
      const sentence = read === 0 && complete ? "No tile is there." : `${read} tiles`;
      say(complete ? "ready" : "loading", sentence);
      if (complete) {
        resolve(sentence);
      }
    }
  };
  shown.canvas.setAttribute("role", "img");
  shown.canvas.setAttribute("aria-label", `${name}: arrow keys move it, plus and minus zoom`);
  shown.addHandler("tile-loaded", () => {
    read += 1;
    report();
  });
  shown.addHandler("tile-load-failed", ({ message }) => {
    if (message !== ABSENT) {
      failed += 1;
      report();
    }
  });
  shown.addHandler("open", () => {
    const { viewport } = shown;
    if (extent !== null) {
      viewport.getHomeBounds = () => extent;
      viewport.goHome(true);
    }
    const zoom = isFirst ? recallNumber("zoom", 0, { least: 0 }) : 0;
    isFirst = false;
    if (zoom > 0) {
      viewport.zoomTo(zoom, null, true);
      viewport.panTo(new OpenSeadragon.Point(recallNumber("x", 0.5), recallNumber("y", 0.5)), true);
    }
    shown.world.getItemAt(0).addHandler("fully-loaded-change", ({ fullyLoaded }) => {
      complete = fullyLoaded;
      report();
    });
    // (What is seen at first, which a link need not say, comes without this.)
    shown.addHandler("animation-finish", () => {
      const { x, y } = viewport.getCenter();
      const digits = (value) => Number(value.toPrecision(6));
      remember({ x: digits(x), y: digits(y), zoom: digits(viewport.getZoom()) });
    });
  });
}
