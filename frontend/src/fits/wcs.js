// From pixels to the world (FITS WCS papers I and II): linear axes, and TAN, SIN and CAR with the usual poles, with the
// distortion of SIP. Of any other projection nothing is said rather than something wrong.

const DEGREES = 180 / Math.PI;
const MAX_ORDER = 9;

// Returns a function from a pixel, counted from 1, to the coordinates of two axes; null where the header has none that are
// understood.
export function makeWorld(header) {
  const types = [header.text("CTYPE1"), header.text("CTYPE2")];
  const reference = [1, 2].map((axis) => [header.number(`CRPIX${axis}`, 0), header.number(`CRVAL${axis}`, 0)]);
  const matrix = makeMatrix(header);
  if (types.some((type) => type === "") || matrix === null) {
    return null;
  }
  const projections = types.map((type) => /^.{4}-?-([A-Z]{3})/.exec(type)?.[1] ?? /-([A-Z]{3})(?:-SIP)?$/.exec(type)?.[1] ?? "");
  const distort = makeDistortion(header, types);
  const [[p1, v1], [p2, v2]] = reference;
  const plane = (x, y) => {
    const [u, v] = distort(x - p1, y - p2);
    return [matrix[0][0] * u + matrix[0][1] * v, matrix[1][0] * u + matrix[1][1] * v];
  };
  const names = types.map((type) => type.split("-")[0]);
  const units = [1, 2].map((axis) => header.text(`CUNIT${axis}`));
  if (projections.every((projection) => projection === "")) {
    return (x, y) => {
      const [a, b] = plane(x, y);
      return `${names[0]} ${write(v1 + a)} ${units[0]}   ${names[1]} ${write(v2 + b)} ${units[1]}`.trimEnd();
    };
  }
  const isSwapped = /^(DEC-|.LAT)/.test(types[0]);
  const sky = makeSky(header, projections, isSwapped ? [v2, v1] : [v1, v2]);
  if (sky === null || units.some((unit) => unit !== "" && !unit.toLowerCase().startsWith("deg"))) {
    return null;
  }
  const [lon, lat] = isSwapped ? [names[1], names[0]] : names;
  return (x, y) => {
    const [a, b] = plane(x, y);
    const found = isSwapped ? sky(b, a) : sky(a, b);
    if (found === null) {
      return "";
    }
    return lon === "RA" ? `RA ${writeHours(found[0])}  Dec ${writeDegrees(found[1])}   (${found[0].toFixed(6)}°, ${found[1].toFixed(6)}°)` : `${lon} ${found[0].toFixed(6)}°  ${lat} ${found[1].toFixed(6)}°`;
  };
}

// Returns what a further axis says of a plane, counted from 1, such as its frequency; "" where it says nothing.
export function describePlane(header, axis, plane) {
  const type = header.text(`CTYPE${axis}`);
  const step = header.number(`CDELT${axis}`, header.number(`CD${axis}_${axis}`));
  const value = header.number(`CRVAL${axis}`);
  if (type === "" || Number.isNaN(step) || Number.isNaN(value)) {
    return "";
  }
  const at = value + (plane - header.number(`CRPIX${axis}`, 0)) * step;
  return `${type} ${write(at)} ${header.text(`CUNIT${axis}`)}`.trimEnd();
}

function makeMatrix(header) {
  const read = (prefix, row, column, otherwise) => header.number(`${prefix}${row}_${column}`, otherwise);
  if ([1, 2].some((row) => [1, 2].some((column) => header.has(`CD${row}_${column}`)))) {
    return [1, 2].map((row) => [1, 2].map((column) => read("CD", row, column, 0)));
  }
  const steps = [header.number("CDELT1"), header.number("CDELT2")];
  if (steps.some(Number.isNaN)) {
    return null;
  }
  if ([1, 2].some((row) => [1, 2].some((column) => header.has(`PC${row}_${column}`)))) {
    return [1, 2].map((row) => [1, 2].map((column) => steps[row - 1] * read("PC", row, column, Number(row === column))));
  }
  const angle = header.number("CROTA2", 0) / DEGREES;
  return [
    [steps[0] * Math.cos(angle), -steps[1] * Math.sin(angle)],
    [steps[0] * Math.sin(angle), steps[1] * Math.cos(angle)],
  ];
}

function makeDistortion(header, types) {
  if (!types.every((type) => type.endsWith("-SIP"))) {
    return (u, v) => [u, v];
  }
  const terms = ["A", "B"].map((name) => {
    const order = Math.min(header.number(`${name}_ORDER`, 0), MAX_ORDER);
    const found = [];
    for (let p = 0; p <= order; p += 1) {
      for (let q = 0; p + q <= order; q += 1) {
        const factor = header.number(`${name}_${p}_${q}`, 0);
        if (factor !== 0) {
          found.push([factor, p, q]);
        }
      }
    }
    return found;
  });
  return (u, v) => [u, v].map((value, axis) => terms[axis].reduce((sum, [factor, p, q]) => sum + factor * u ** p * v ** q, value));
}

// Returns a function from the plane of a projection (degrees) to the sky (degrees); null for where there is no sky.
function makeSky(header, [projection, other], [lon, lat]) {
  if (projection !== other) {
    return null;
  }
  if (projection === "CAR") {
    // With its reference on the equator the native sphere is the celestial one, turned about the pole.
    const isUsual = lat === 0 && header.number("LONPOLE", 0) === 0;
    return isUsual ? (a, b) => (Math.abs(b) <= 90 ? [wrap(lon + a), b] : null) : null;
  }
  const pole = header.number("LONPOLE", lat >= 90 ? 0 : 180);
  if (!["TAN", "SIN"].includes(projection) || ["PV2_1", "PV2_2"].some((name) => header.number(name, 0) !== 0)) {
    return null;
  }
  const [sin0, cos0] = [Math.sin(lat / DEGREES), Math.cos(lat / DEGREES)];
  return (a, b) => {
    const radius = Math.hypot(a, b) / DEGREES;
    if (projection === "SIN" && radius > 1) {
      return null;
    }
    const theta = projection === "TAN" ? Math.atan2(1, radius) : Math.acos(radius);
    const phi = Math.atan2(a, -b) - pole / DEGREES;
    const [sin, cos] = [Math.sin(theta), Math.cos(theta)];
    const delta = Math.asin(sin * sin0 + cos * cos0 * Math.cos(phi));
    const alpha = Math.atan2(-cos * Math.sin(phi), sin * cos0 - cos * sin0 * Math.cos(phi));
    return [wrap(lon + alpha * DEGREES), delta * DEGREES];
  };
}

function wrap(degrees) {
  return ((degrees % 360) + 360) % 360;
}

function write(value) {
  return String(Number(value.toPrecision(9)));
}

function writeHours(degrees) {
  return sexagesimal(degrees / 15, 24, ["h", "m", "s"], 3);
}

function writeDegrees(degrees) {
  return (degrees < 0 ? "−" : "+") + sexagesimal(Math.abs(degrees), Infinity, ["°", "′", "″"], 2);
}

function sexagesimal(value, turn, signs, digits) {
  const unit = 10 ** digits;
  const parts = Math.round(value * 3600 * unit);
  const whole = Math.floor(parts / (3600 * unit)) % turn;
  const minutes = Math.floor(parts / (60 * unit)) % 60;
  const seconds = ((parts % (60 * unit)) / unit).toFixed(digits).padStart(digits + 3, "0");
  return `${String(whole).padStart(2, "0")}${signs[0]} ${String(minutes).padStart(2, "0")}${signs[1]} ${seconds}${signs[2]}`;
}
