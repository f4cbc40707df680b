// The map that fills the page: Leaflet without any base map, with a graticule, a line that tells what is where, and its
// place kept in the page's address.

import L from "leaflet";
import { recallNumbers, remember } from "../common/address.js";
import { element } from "../common/page.js";
import { Graticule } from "./graticule.js";

const root = document.documentElement;

// Makes the map. `world` says how places on it are named: { toGeo, toMap, format, isDegrees, step } (see graticule.js);
// `tell(place, signal)` returns what is at a place, in words; `bounds` is what is shown at first.
export function makeMap({ crs, world, bounds, minZoom, maxZoom, label, tell }) {
  const view = document.getElementById("view");
  const box = element("div", { className: "map", role: "application", "aria-label": label });
  box.setAttribute("aria-describedby", "where");
  const where = element("p", { className: "where", id: "where", role: "status" });
  view.classList.add("filled");
  // What the page says stands over the map, which keeps its size then.
  view.append(box, where, document.getElementById("status"));
  const map = L.map(box, {
    crs,
    minZoom,
    maxZoom,
    zoomSnap: 0.5,
    attributionControl: false,
    fadeAnimation: false,
    zoomAnimation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    });
  map.setMaxBounds(bounds.pad(1));
  new ResizeObserver(() => map.invalidateSize({ animate: false })).observe(box);
  const place = recallNumbers("at", 3);
  if (place !== null) {
    map.setView([place[0], place[1]], place[2]);
  } else {
    map.fitBounds(bounds, { padding: [12, 12] });
  }
  new Graticule(world).addTo(map);
  const keepPlace = () => {
    const { lat, lng } = map.getCenter();
    remember({ at: `${Number(lat.toFixed(6))},${Number(lng.toFixed(6))},${map.getZoom()}` });
  };
  keepPlace();
  map.on("moveend", keepPlace);
  followPointer(map, where, world, tell);
  return map;
}

// Tells what is under the pointer, or, for the keyboard, at the cross in the middle.
function followPointer(map, where, world, tell) {
  let pointer = null;
  let controller = new AbortController();
  let isAsked = false;
  const show = async () => {
    isAsked = false;
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    const place = pointer ?? map.getCenter();
    let told = "";
    try {
      told = await tell(place, signal);
    } catch (error) {
      told = error.name === "AbortError" ? "" : error.message;
    }
    if (!signal.aborted) {
      where.textContent = [world.format(place), told].filter(Boolean).join(" · ");
    }
  };
  const ask = () => {
    if (!isAsked) {
      isAsked = true;
      requestAnimationFrame(show);
    }
  };
  map.on("mousemove", (event) => {
    pointer = event.latlng;
    ask();
  });
  map.on("mouseout", () => {
    pointer = null;
    ask();
  });
  map.on("moveend", ask);
  map.on("load tilesdrawn", ask);
  const cross = element("div", { className: "cross", "aria-hidden": "true" });
  map.getContainer().append(cross);
  ask();
}

// Says in the page's root whether all that is seen has been drawn, and resolves once it has for the first time.
export function watchLayer(map, layer) {
  return new Promise((resolve) => {
    layer.on("loading", () => {
      if (root.dataset.state === "ready") {
        root.dataset.state = "loading";
        root.dataset.again = "";
      }
    });
    layer.on("load", () => {
      if ("again" in root.dataset) {
        delete root.dataset.again;
        root.dataset.state = "ready";
      }
      map.fire("tilesdrawn");
      resolve();
    });
  });
}

// Tiles that are drawn on a canvas each by `draw(canvas, coords, signal)`, which may be asked again by `repaint`.
export const DrawnLayer = L.GridLayer.extend({
  initialize(draw, failed, options) {
    L.GridLayer.prototype.initialize.call(this, { updateWhenIdle: false, keepBuffer: 1, ...options });
    this._draw = draw;
    this._failed = failed;
    this._live = new Map();
    this.on("tileunload", ({ tile }) => {
      this._live.get(tile)?.controller.abort();
      this._live.delete(tile);
    });
  },

  createTile(coords, done) {
    const size = this.getTileSize();
    const density = Math.min(2, Math.ceil(devicePixelRatio));
    const canvas = element("canvas", { width: size.x * density, height: size.y * density });
    const live = { coords, controller: new AbortController() };
    this._live.set(canvas, live);
    this._drawTile(canvas, live).then(() => done(null, canvas));
    return canvas;
  },

  async _drawTile(canvas, { coords, controller }) {
    try {
      await this._draw(canvas, coords, controller.signal);
    } catch (error) {
      if (error.name !== "AbortError") {
        this._failed(error);
      }
    }
  },

  // Draws all tiles anew, from what has been read.
  async repaint() {
    this.fire("loading");
    await Promise.all([...this._live].map(([canvas, live]) => this._drawTile(canvas, live)));
    this.fire("load");
  },
});

// A panel over the map with a heading that opens and closes it.
export function makePanel(heading, ...children) {
  const isWide = matchMedia("(min-width: 700px)").matches;
  const panel = element("details", { className: "panel", open: isWide }, element("summary", {}, heading), ...children);
  let panels = document.querySelector(".panels");
  if (panels === null) {
    panels = element("div", { className: "panels" });
    document.getElementById("view").append(panels);
  }
  panels.append(panel);
  return panel;
}
