// Lines and labels of longitude and latitude, or of pixels, as close as the view asks for.
//
// `world` is { toGeo(latlng) -> [x, y] or null, toMap(x, y) -> latlng or null, isDegrees, limits: [west, south, east, north] }.

import L from "leaflet";
import { onThemeChange } from "../common/theme.js";

const STEPS = [90, 45, 30, 15, 10, 5, 2, 1];
const LINES = 5;
const SAMPLES = 48;
const EDGE = 34;

export const Graticule = L.Layer.extend({
  initialize(world) {
    this._world = world;
  },

  onAdd(map) {
    this._canvas = L.DomUtil.create("canvas", "graticule leaflet-zoom-hide", map.getPane("overlayPane"));
    this._canvas.setAttribute("aria-hidden", "true");
    map.on("moveend zoomend viewreset resize", this._draw, this);
    onThemeChange(() => this._draw());
    this._draw();
  },

  _draw() {
    const map = this._map;
    const size = map.getSize();
    const density = devicePixelRatio;
    this._canvas.width = size.x * density;
    this._canvas.height = size.y * density;
    this._canvas.style.width = `${size.x}px`;
    this._canvas.style.height = `${size.y}px`;
    L.DomUtil.setPosition(this._canvas, map.containerPointToLayerPoint([0, 0]));
    const extent = findExtent(map, this._world);
    if (extent === null) {
      return;
    }
    const context = this._canvas.getContext("2d");
    context.scale(density, density);
    const { color: ink, caretColor: paper, columnRuleColor: plate } = getComputedStyle(this._canvas); // As map.css has them for the theme.
    const labels = [];
    for (const axis of [0, 1]) {
      const step = findStep(extent.high[axis] - extent.low[axis], this._world.isDegrees);
      for (let index = Math.ceil(extent.low[axis] / step); index * step <= extent.high[axis]; index += 1) {
        const line = trace(map, this._world, extent, axis, index * step);
        stroke(context, line, paper, 2.6);
        stroke(context, line, ink, 0.9);
        const at = findEdge(line, axis, size);
        if (at !== null) {
          labels.push({ text: nameLine(axis, index * step, step, this._world.isDegrees), at, axis });
        }
      }
    }
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const { text, at, axis } of labels) {
      context.textAlign = axis === 0 ? "center" : "right";
      const width = context.measureText(text).width + 8;
      context.fillStyle = plate;
      context.beginPath();
      context.roundRect(axis === 0 ? at[0] - width / 2 : at[0] - width + 4, at[1] - 8, width, 16, 4);
      context.fill();
      context.fillStyle = ink;
      context.fillText(text, at[0], at[1]);
    }
  },
});

// Returns the range of both coordinates that is seen, from places all over the view.
function findExtent(map, world) {
  const size = map.getSize();
  const centre = world.toGeo(map.getCenter());
  const seen = [];
  for (let row = 0; row <= 8; row += 1) {
    for (let column = 0; column <= 8; column += 1) {
      const place = world.toGeo(map.containerPointToLatLng([(size.x * column) / 8, (size.y * row) / 8]));
      if (place !== null) {
        seen.push(place);
      }
    }
  }
  if (seen.length === 0) {
    return null;
  }
  const middle = centre ?? seen[0];
  // Longitudes are taken by the way that is shorter from the middle.
  const near = (x) => (world.isPlane ? x : middle[0] + ((((x - middle[0] + 180) % 360) + 360) % 360) - 180);
  const xs = seen.map(([x]) => near(x));
  const ys = seen.map(([, y]) => y);
  const [west, south, east, north] = world.limits;
  if (!world.isPlane && Math.max(...xs) - Math.min(...xs) > 300) {
    xs.push(middle[0] - 180, middle[0] + 180); // Around a pole.
  }
  const low = [Math.max(Math.min(...xs), west), Math.max(Math.min(...ys), south)];
  const high = [Math.min(Math.max(...xs), east), Math.min(Math.max(...ys), north)];
  return low[0] < high[0] && low[1] < high[1] ? { low, high } : null;
}

function findStep(span, isDegrees) {
  const wanted = span / LINES;
  if (isDegrees && wanted >= 1) {
    return STEPS.findLast((step) => step >= wanted) ?? STEPS[0];
  }
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= wanted);
  return isDegrees ? step : Math.max(1, step);
}

// Returns the points in the view of a line on which the coordinate `axis` has one value; null where it is broken.
function trace(map, world, extent, axis, value) {
  const other = 1 - axis;
  const corner = map.getPixelBounds().min;
  return Array.from({ length: SAMPLES + 1 }, (_, index) => {
    const along = extent.low[other] + ((extent.high[other] - extent.low[other]) * index) / SAMPLES;
    const place = axis === 0 ? world.toMap(value, along) : world.toMap(along, value);
    return place === null ? null : map.project(place).subtract(corner);
  });
}

function stroke(context, line, colour, width) {
  context.beginPath();
  let isDown = false;
  for (const point of line) {
    if (point === null) {
      isDown = false;
    } else if (isDown) {
      context.lineTo(point.x, point.y);
    } else {
      context.moveTo(point.x, point.y);
      isDown = true;
    }
  }
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke();
}

// Returns where a line's label stands: at the top for meridians, at the right for parallels.
function findEdge(line, axis, size) {
  const edge = axis === 0 ? 12 : size.x - 8;
  const along = axis === 0 ? "y" : "x";
  const across = axis === 0 ? "x" : "y";
  for (let index = 1; index < line.length; index += 1) {
    const [from, to] = [line[index - 1], line[index]];
    if (from !== null && to !== null && (from[along] - edge) * (to[along] - edge) <= 0 && from[along] !== to[along]) {
      const at = from[across] + ((edge - from[along]) / (to[along] - from[along])) * (to[across] - from[across]);
      const isInside = at > EDGE && at < (axis === 0 ? size.x : size.y) - EDGE;
      return isInside ? (axis === 0 ? [at, edge] : [edge, at]) : null;
    }
  }
  return null;
}

function nameLine(axis, value, step, isDegrees) {
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  if (!isDegrees) {
    return Math.round(value).toLocaleString("en");
  }
  return nameDegrees(axis, value, digits);
}

// Returns a longitude (axis 0) or latitude (axis 1) as people write it.
export function nameDegrees(axis, value, digits) {
  const turned = axis === 0 ? ((((value + 180) % 360) + 360) % 360) - 180 : value;
  const text = Math.abs(turned).toFixed(digits);
  const letter = Number(text) === 0 || (axis === 0 && Number(text) === 180) ? "" : ["EW", "NS"][axis][turned < 0 ? 1 : 0];
  return `${text}°${letter && ` ${letter}`}`;
}
