// Shows a tile pyramid that toasty made: pyramid.html?tiles=URL of its folder, relative to this page.
//
// What the page is doing stands in data-state of the html element: "loading",
// "ready" (all tiles of the view are drawn) or "failed".

const TILE_PIXELS = 256;
const ABSENT = "absent";

const root = document.documentElement;
const status = document.getElementById("status");

function say(state, sentence) {
  root.dataset.state = state;
  status.textContent = sentence;
}

function findFolder() {
  const given = new URLSearchParams(location.search).get("tiles");
  if (given === null) {
    throw new Error("Name the pyramid's folder in this page's address: pyramid.html?tiles=URL");
  }
  const folder = new URL(given.endsWith("/") ? given : `${given}/`, location.href);
  if (folder.origin !== location.origin) {
    throw new Error("The pyramid must come from the same server as this page.");
  }
  return folder;
}

async function readDescription(folder) {
  const answer = await fetch(new URL("index_rel.wtml", folder));
  if (!answer.ok) {
    throw new Error(`The folder has no index_rel.wtml that can be read (status ${answer.status}).`);
  }
  const wtml = new DOMParser().parseFromString(await answer.text(), "application/xml");
  const image = wtml.querySelector("ImageSet");
  if (image === null) {
    throw new Error("The folder's index_rel.wtml describes no image.");
  }
  return {
    name: image.getAttribute("Name") || "Tile pyramid",
    levels: Number(image.getAttribute("TileLevels")),
    pattern: image.getAttribute("Url"),
  };
}

// In WWT's patterns, {1} is the level, {2} the column and {3} the row.
function tileUrl(folder, pattern, level, x, y) {
  const path = pattern.replaceAll("{1}", level).replaceAll("{2}", x).replaceAll("{3}", y);
  const url = new URL(path, folder);
  // Whoever wrote the pyramid must not have this page ask for anything else, with the login of whoever looks at it.
  if (url.origin !== folder.origin || !url.pathname.startsWith(folder.pathname)) {
    throw new Error("The pyramid's tiles must lie below its folder.");
  }
  return url.href;
}

// Returns the part of the pyramid that has data, as its topmost tile shows it, in units of the pyramid's side.
async function findExtent(folder, pattern) {
  const answer = await fetch(tileUrl(folder, pattern, 0, 0, 0));
  if (!answer.ok) {
    return null;
  }
  const tile = await createImageBitmap(await answer.blob());
  const canvas = new OffscreenCanvas(tile.width, tile.height);
  const context = canvas.getContext("2d");
  context.drawImage(tile, 0, 0);
  const { data, width, height } = context.getImageData(0, 0, tile.width, tile.height);
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (data[4 * (y * width + x) + 3] > 0) {
        [left, top] = [Math.min(left, x), Math.min(top, y)];
        [right, bottom] = [Math.max(right, x + 1), Math.max(bottom, y + 1)];
      }
    }
  }
  if (right === 0) {
    return null;
  }
  return new OpenSeadragon.Rect(left / width, top / height, (right - left) / width, (bottom - top) / height);
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
      job.finish(await createImageBitmap(await answer.blob()), null, "imageBitmap");
    }
  } catch (error) {
    job.fail(error.name === "AbortError" ? ABSENT : error.message);
  }
}

function show(folder, { name, levels, pattern }, extent) {
  document.title = name;
  document.getElementById("name").textContent = name;
  const side = TILE_PIXELS * 2 ** levels;
  const viewer = OpenSeadragon({
    element: document.getElementById("viewer"),
    prefixUrl: "openseadragon/images/",
    drawer: "canvas",
    maxZoomPixelRatio: 4,
    tileSources: {
      width: side,
      height: side,
      tileSize: TILE_PIXELS,
      minLevel: 0,
      maxLevel: levels,
      getTileUrl: (level, x, y) => tileUrl(folder, pattern, level, x, y),
      downloadTileStart: (job) => {
        job.userData.abort = new AbortController();
        loadTile(job);
      },
      downloadTileAbort: (job) => job.userData.abort.abort(),
    },
  });

  let shown = 0;
  let failed = 0;
  let complete = false;
  const report = () => {
    if (failed > 0) {
      say("failed", `${failed} of ${shown + failed} tiles could not be read.`);
    } else {
      say(complete ? "ready" : "loading", `${shown} tiles`);
    }
  };
  viewer.addHandler("tile-loaded", () => {
    shown += 1;
    report();
  });
  viewer.addHandler("tile-load-failed", ({ message }) => {
    if (message !== ABSENT) {
      failed += 1;
      report();
    }
  });
  viewer.addHandler("open", () => {
    if (extent !== null) {
      viewer.viewport.getHomeBounds = () => extent;
      viewer.viewport.goHome(true);
    }
    viewer.world.getItemAt(0).addHandler("fully-loaded-change", ({ fullyLoaded }) => {
      complete = fullyLoaded;
      report();
    });
  });
}

say("loading", "Reading the description of the pyramid …");
try {
  const folder = findFolder();
  const description = await readDescription(folder);
  show(folder, description, await findExtent(folder, description.pattern));
} catch (error) {
  say("failed", error.message);
}
