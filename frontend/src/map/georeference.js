// Where on Earth the pixels of a GeoTIFF are, as far as its keys say so in a way that is understood here.
//
// https://docs.ogc.org/is/19-008r4/19-008r4.html (OGC GeoTIFF 1.1)

import { globals } from "geotiff";
import { TAGS } from "./tiff.js";

const USER_DEFINED = 32767;
const PROJECTED = 1;
const GEOGRAPHIC = 2;
const DEGREE = 9102;
const METRE = 9001;

// What EPSG calls systems that are met often, besides UTM.
const KNOWN = {
  3857: "+proj=merc +a=6378137 +b=6378137 +units=m",
  3785: "+proj=merc +a=6378137 +b=6378137 +units=m",
  900913: "+proj=merc +a=6378137 +b=6378137 +units=m",
  3395: "+proj=merc +datum=WGS84 +units=m",
  2154: "+proj=lcc +lat_0=46.5 +lon_0=3 +lat_1=49 +lat_2=44 +x_0=700000 +y_0=6600000 +ellps=GRS80 +units=m",
  3031: "+proj=stere +lat_0=-90 +lat_ts=-71 +lon_0=0 +datum=WGS84 +units=m",
  3035: "+proj=laea +lat_0=52 +lon_0=10 +x_0=4321000 +y_0=3210000 +ellps=GRS80 +units=m",
  3413: "+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +datum=WGS84 +units=m",
  3995: "+proj=stere +lat_0=90 +lat_ts=71 +lon_0=0 +datum=WGS84 +units=m",
  5070: "+proj=aea +lat_0=23 +lon_0=-96 +lat_1=29.5 +lat_2=45.5 +ellps=GRS80 +units=m",
  6933: "+proj=cea +lat_ts=30 +lon_0=0 +datum=WGS84 +units=m",
};

// Returns { corner, step, name, toGeo, toPlane } or { reason } where only pixels are known: `corner` is the outer corner of the
// first pixel, `step` the way to the next one, right and down; toGeo makes degrees of a place in the plane.
export async function readGeoreference(directory) {
  const placed = await readPlace(directory);
  if (placed.reason) {
    return placed;
  }
  const keys = await readKeys(directory);
  if (keys === null) {
    return { reason: "It does not say by which system of coordinates it is placed." };
  }
  const { corner, step } = placed;
  if (keys.GTRasterTypeGeoKey === 2) {
    corner[0] -= step[0] / 2; // The coordinates are of a pixel's centre.
    corner[1] -= step[1] / 2;
  }
  const system = await findSystem(keys);
  return system.reason ? system : { corner, step, ...system };
}

async function readPlace(directory) {
  const scale = await directory.values(TAGS.ModelPixelScale);
  const tie = await directory.values(TAGS.ModelTiepoint);
  const matrix = await directory.values(TAGS.ModelTransformation);
  let corner;
  let step;
  if (matrix?.length === 16) {
    if (matrix[1] !== 0 || matrix[4] !== 0) {
      return { reason: "It lies at an angle to its system of coordinates." };
    }
    corner = [matrix[3], matrix[7]];
    step = [matrix[0], matrix[5]];
  } else if (scale !== null && tie?.length === 6) {
    step = [scale[0], -scale[1]];
    corner = [tie[3] - tie[0] * step[0], tie[4] - tie[1] * step[1]];
  } else {
    return { reason: tie === null && matrix === null ? "It does not say where it is." : "It is placed by points, not by a corner and a scale." };
  }
  const isSound = [...corner, ...step].every(Number.isFinite) && step[0] > 0 && step[1] !== 0;
  return isSound ? { corner, step } : { reason: "What it says of its place cannot be." };
}

async function readKeys(directory) {
  const list = await directory.values(TAGS.GeoKeyDirectory);
  if (list === null || list.length < 4) {
    return null;
  }
  const numbers = (await directory.values(TAGS.GeoDoubleParams)) ?? [];
  const texts = (await directory.values(TAGS.GeoAsciiParams)) ?? "";
  const keys = {};
  for (let at = 4; at + 3 < list.length && at <= list[3] * 4; at += 4) {
    const [key, where, count, value] = list.slice(at, at + 4);
    const name = globals.geoKeyNames[key];
    if (where === 0) {
      keys[name] = value;
    } else if (where === TAGS.GeoDoubleParams) {
      keys[name] = numbers[value];
    } else if (where === TAGS.GeoAsciiParams) {
      keys[name] = texts.slice(value, value + count - 1);
    }
  }
  return keys;
}

async function findSystem(keys) {
  if (keys.GTModelTypeGeoKey === GEOGRAPHIC) {
    if ((keys.GeogAngularUnitsGeoKey ?? DEGREE) !== DEGREE) {
      return { reason: "Its coordinates are angles, but no degrees." };
    }
    const code = keys.GeographicTypeGeoKey ?? USER_DEFINED;
    const same = (point) => point;
    return { name: code === USER_DEFINED ? "degrees" : `EPSG:${code}`, toGeo: same, toPlane: same };
  }
  if (keys.GTModelTypeGeoKey !== PROJECTED) {
    return { reason: "It does not say by which system of coordinates it is placed." };
  }
  const code = keys.ProjectedCSTypeGeoKey ?? USER_DEFINED;
  const definition = code === USER_DEFINED ? define(keys) : (KNOWN[code] ?? findUtm(code));
  if (definition === null) {
    const called = code === USER_DEFINED ? keys.GTCitationGeoKey || "one of its own" : `EPSG:${code}`;
    return { reason: `Its system of coordinates (${called}) is not known here.` };
  }
  const { default: proj4 } = await import("proj4");
  const { forward, inverse } = proj4(definition);
  const name = code === USER_DEFINED ? keys.GTCitationGeoKey || "a projection of its own" : `EPSG:${code}`;
  return { name, toGeo: guarded(inverse), toPlane: guarded(forward) };
}

// Returns what a projection makes of a point, or null where it has no such point.
function guarded(project) {
  return (point) => {
    try {
      const [x, y] = project(point);
      return Number.isFinite(x) && Number.isFinite(y) ? [x, y] : null;
    } catch {
      return null; // proj4 throws where a point has no image.
    }
  };
}

function findUtm(code) {
  for (const [first, last, more] of [
    [32601, 32660, "+datum=WGS84"],
    [32701, 32760, "+south +datum=WGS84"],
    [25828, 25838, "+ellps=GRS80"],
    [26901, 26923, "+ellps=GRS80"],
  ]) {
    if (code >= first && code <= last) {
      return `+proj=utm +zone=${code % 100} ${more} +units=m`;
    }
  }
  return null;
}

// Returns what proj4 calls a projection that the file defines itself, or null.
function define(keys) {
  if ((keys.ProjLinearUnitsGeoKey ?? METRE) !== METRE) {
    return null;
  }
  const latitude = keys.ProjNatOriginLatGeoKey ?? keys.ProjFalseOriginLatGeoKey ?? keys.ProjCenterLatGeoKey ?? 0;
  const longitude =
    keys.ProjNatOriginLongGeoKey ?? keys.ProjFalseOriginLongGeoKey ?? keys.ProjCenterLongGeoKey ?? keys.ProjStraightVertPoleLongGeoKey ?? 0;
  const first = keys.ProjStdParallel1GeoKey;
  const second = keys.ProjStdParallel2GeoKey ?? first;
  const scale = keys.ProjScaleAtNatOriginGeoKey ?? keys.ProjScaleAtCenterGeoKey ?? 1;
  const shapes = {
    1: `+proj=tmerc +lat_0=${latitude} +k=${scale}`,
    7: `+proj=merc +k=${scale}`,
    8: `+proj=lcc +lat_0=${latitude} +lat_1=${first} +lat_2=${second}`,
    9: `+proj=lcc +lat_0=${latitude} +lat_1=${latitude} +k_0=${scale}`,
    10: `+proj=laea +lat_0=${latitude}`,
    11: `+proj=aea +lat_0=${latitude} +lat_1=${first} +lat_2=${second}`,
    15: `+proj=stere +lat_0=${latitude < 0 ? -90 : 90} +lat_ts=${latitude}`,
    17: `+proj=eqc +lat_0=${latitude} +lat_ts=${first ?? 0}`,
    24: "+proj=sinu",
    28: `+proj=cea +lat_ts=${first ?? 0}`,
  };
  const shape = shapes[keys.ProjCoordTransGeoKey];
  const east = keys.ProjFalseEastingGeoKey ?? keys.ProjFalseOriginEastingGeoKey ?? 0;
  const north = keys.ProjFalseNorthingGeoKey ?? keys.ProjFalseOriginNorthingGeoKey ?? 0;
  const definition = `${shape} +lon_0=${longitude} +x_0=${east} +y_0=${north} ${ellipsoid(keys)} +units=m`;
  return shape === undefined || /undefined|NaN/.test(definition) ? null : definition;
}

function ellipsoid(keys) {
  const major = keys.GeogSemiMajorAxisGeoKey;
  const minor = keys.GeogSemiMinorAxisGeoKey ?? major * (1 - 1 / (keys.GeogInvFlatteningGeoKey ?? Infinity));
  return major ? `+a=${major} +b=${minor}` : "+datum=WGS84";
}
