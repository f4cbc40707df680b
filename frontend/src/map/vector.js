// Vector tiles: https://github.com/mapbox/vector-tile-spec/tree/master/2.1
//
// They are read here, with pbf, since a few bytes of a tile may name hundreds of millions of points, for which common
// readers take memory.

import { PbfReader } from "pbf";

const POINT = 1;
const LINE = 2;
const POLYGON = 3;
const MAX_LAYERS = 256;
const MAX_FEATURES = 200_000;
const MAX_POINTS = 4_000_000;

// Returns the layers of a tile: { name, extent, features: [{ type, rings, properties() }] }, where rings are lists of
// coordinates, x and y in turn.
export function readTile(bytes) {
  const layers = [];
  const left = { points: MAX_POINTS, features: MAX_FEATURES };
  new PbfReader(bytes).readFields((tag, _, pbf) => {
    if (tag === 3) {
      if (layers.length === MAX_LAYERS) {
        throw new Error("A tile has too many layers to be shown.");
      }
      layers.push(readLayer(pbf, pbf.readVarint() + pbf.pos, left));
    }
  }, null);
  return layers;
}

// Counts what takes memory, though it may be a byte of the tile: points, and the names and values of properties.
function count(left) {
  left.points -= 1;
  if (left.points < 0) {
    throw new Error("A tile has too many points to be shown.");
  }
}

function readLayer(pbf, end, left) {
  const layer = { name: "", extent: 4096, keys: [], values: [], features: [] };
  pbf.readFields(
    (tag) => {
      if (tag === 1) {
        layer.name = pbf.readString();
      } else if (tag === 2) {
        left.features -= 1;
        if (left.features < 0) {
          throw new Error("A tile has too many features to be shown.");
        }
        layer.features.push(readFeature(pbf, pbf.readVarint() + pbf.pos, layer, left));
      } else if (tag === 3) {
        count(left);
        layer.keys.push(pbf.readString());
      } else if (tag === 4) {
        count(left);
        layer.values.push(readValue(pbf, pbf.readVarint() + pbf.pos));
      } else if (tag === 5) {
        layer.extent = pbf.readVarint();
      }
    },
    null,
    end,
  );
  if (!(layer.extent > 0)) {
    throw new Error("A layer of a tile has no size.");
  }
  return layer;
}

function readValue(pbf, end) {
  let value = null;
  pbf.readFields(
    (tag) => {
      const readers = [null, "readString", "readFloat", "readDouble", "readVarint64", "readVarint", "readSVarint", "readBoolean"];
      if (readers[tag]) {
        value = pbf[readers[tag]]();
      }
    },
    null,
    end,
  );
  return value;
}

function readFeature(pbf, end, layer, left) {
  let type = 0;
  let tags = [];
  let rings = [];
  pbf.readFields(
    (tag) => {
      if (tag === 2) {
        tags = pbf.readPackedVarint();
      } else if (tag === 3) {
        type = pbf.readVarint();
      } else if (tag === 4) {
        rings = readGeometry(pbf, pbf.readVarint() + pbf.pos, left);
      }
    },
    null,
    end,
  );
  // (The names and values of a layer may come after its features.)
  const properties = () =>
    Array.from({ length: tags.length >> 1 }, (_, index) => [layer.keys[tags[index * 2]] ?? "?", layer.values[tags[index * 2 + 1]]]);
  return { type, rings, properties };
}

function readGeometry(pbf, end, left) {
  const rings = [];
  let ring = null;
  let [x, y] = [0, 0];
  while (pbf.pos < end) {
    const command = pbf.readVarint();
    if ((command & 7) === 7) {
      count(left);
      ring?.push(ring[0], ring[1]); // How often at once a ring is closed does not matter.
      continue;
    }
    if ((command & 7) !== 1 && (command & 7) !== 2) {
      throw new Error("A tile has a geometry that cannot be read.");
    }
    for (let times = command >>> 3; times > 0 && pbf.pos < end; times -= 1) {
      x += pbf.readSVarint();
      y += pbf.readSVarint();
      count(left);
      if ((command & 7) === 1) {
        ring = [x, y];
        rings.push(ring);
      } else {
        ring?.push(x, y);
      }
    }
  }
  return rings;
}

// Draws features on a canvas; `scale` and `shift` make pixels of a tile's coordinates.
export function drawFeatures(context, features, { scale, shiftX, shiftY, colour, density }) {
  context.strokeStyle = colour;
  context.fillStyle = colour;
  context.lineJoin = "round";
  context.lineCap = "round";
  for (const { type, rings } of features) {
    context.beginPath();
    for (const ring of rings) {
      for (let index = 0; index < ring.length; index += 2) {
        const [x, y] = [ring[index] * scale + shiftX, ring[index + 1] * scale + shiftY];
        if (type === POINT) {
          context.moveTo(x + 3 * density, y);
          context.arc(x, y, 3 * density, 0, 7);
        } else if (index === 0) {
          context.moveTo(x, y);
        } else {
          context.lineTo(x, y);
        }
      }
    }
    if (type === POLYGON) {
      context.globalAlpha = 0.28;
      context.fill("evenodd");
      context.globalAlpha = 0.9;
      context.lineWidth = density;
      context.stroke();
    } else if (type === LINE) {
      context.globalAlpha = 0.9;
      context.lineWidth = 1.4 * density;
      context.stroke();
    } else if (type === POINT) {
      context.globalAlpha = 0.9;
      context.fill();
    }
  }
  context.globalAlpha = 1;
}

// Whether a feature is at a place, or within `reach` of it, in a tile's coordinates.
export function isAt({ type, rings }, x, y, reach) {
  if (type === POLYGON && isInside(rings, x, y)) {
    return true;
  }
  return rings.some((ring) => {
    for (let index = 0; index < ring.length; index += 2) {
      const next = type === POINT || index + 2 >= ring.length ? index : index + 2;
      if (distance(x, y, ring[index], ring[index + 1], ring[next], ring[next + 1]) <= reach) {
        return true;
      }
    }
    return false;
  });
}

function isInside(rings, x, y) {
  let isIn = false;
  for (const ring of rings) {
    for (let index = 0, before = ring.length - 2; index < ring.length; before = index, index += 2) {
      const [x1, y1, x2, y2] = [ring[index], ring[index + 1], ring[before], ring[before + 1]];
      if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) {
        isIn = !isIn;
      }
    }
  }
  return isIn;
}

// Returns how far a point is from a line between two others.
function distance(x, y, x1, y1, x2, y2) {
  const length = (x2 - x1) ** 2 + (y2 - y1) ** 2;
  const along = length === 0 ? 0 : Math.max(0, Math.min(1, ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length));
  return Math.hypot(x - x1 - along * (x2 - x1), y - y1 - along * (y2 - y1));
}
