// Shows a TIFF on a map: its plane is the map's plane, so that pixels are drawn as they are, and the graticule bends.

import L from "leaflet";
import { recall, recallNumbers, remember } from "../common/address.js";
import { COLOUR_MAPS, drawScale, findColourMap, makeColours } from "../common/colours.js";
import { chooser, numberField } from "../common/forms.js";
import { element, factList, formatBytes, say } from "../common/page.js";
import { RANGES, findRange, formatNumber, makeGrade } from "../common/values.js";
import { DrawnLayer, makeMap, makePanel, watchLayer } from "./frame.js";
import { nameDegrees } from "./graticule.js";
import { readGeoreference } from "./georeference.js";
import { Level } from "./levels.js";
import { TAGS, readDirectories } from "./tiff.js";

// What may be decoded for one view; where a file has nothing smaller, a sample of it is shown.
const VIEW_BYTES = 64 * 1024 * 1024;
const SAMPLE_BYTES = 4 * 1024 * 1024;
const SAMPLE_BLOCKS = 256;

// Of the values from which the range of the colours is taken.
const RANGE_BLOCKS = 4;

const GREY_INVERTED = 0;
const RGB = 2;
const PALETTE = 3;
const CMYK = 5;
const YCBCR = 6;
const COLOURED = { [RGB]: 3, [CMYK]: 4, [YCBCR]: 3 };
const ALPHA = [1, 2];

export async function showTiff(file) {
  const image = await TiffImage.open(file);
  const picture = new Picture(image);
  await picture.choose(recall("bands") ?? "");
  const { name, reason } = image.place;
  const shape = `${image.full.width.toLocaleString("en")} × ${image.full.height.toLocaleString("en")} pixels`;
  const problems = new Set();
  const sentence = () =>
    [
      reason ? `${reason} It is shown by its pixels.` : "",
      picture.told,
      ...[...problems].slice(0, 1).map((each) => `Some of it cannot be shown: ${each}`),
    ]
      .filter(Boolean)
      .join(" ");

  // (Before the map, which takes what is left of the window.)
  showControls(picture, () => layer.repaint());
  const map = makeMap({
    crs: L.CRS.Simple,
    world: image.world,
    bounds: L.latLngBounds([-image.extent[1], 0], [0, image.extent[0]]),
    minZoom: Math.min(0, Math.floor(Math.log2(160 / Math.max(...image.extent)))),
    maxZoom: 7,
    label: `Map of the image, ${shape}`,
    tell: (place, signal) => picture.tell(place, signal),
  });
  picture.viewSize = () => map.getSize();
  const layer = new DrawnLayer(
    (canvas, coords, signal) => picture.draw(canvas, coords, signal),
    (error) => problems.add(error.message),
    { minZoom: -40, maxZoom: 40, noWrap: true },
  );
  const drawn = watchLayer(map, layer);
  layer.addTo(map);
  layer.on("load", () => {
    const { state } = document.documentElement.dataset;
    if (state !== "failed") {
      say(state, sentence());
    }
  });
  const bands = `${image.full.samples} × ${typeName(image.full)}`;
  const sizes = image.levels.map((level) => `${level.width} × ${level.height}`).join(", ");
  makePanel(
    "About",
    factList([
      ["Size", shape],
      ["Bands", bands],
      ["Coordinates", name ?? "pixels"],
      ["Pixel", name ? image.place.step.map((each) => formatNumber(Math.abs(each))).join(" × ") : null],
      ["Stored as", `${image.full.isTiled ? "tiles" : "strips"} of ${image.full.blockWidth} × ${image.full.blockHeight}`],
      ["Overviews", image.levels.length > 1 ? sizes : "none"],
      ["No data", image.nodata],
      ["File", formatBytes(file.size)],
    ]),
  ).open = false;
  const facts = [name ?? "", bands, formatBytes(file.size)];
  document.getElementById("facts").textContent = facts.filter(Boolean).join(" · ");
  await drawn;
  if (picture.drawnBlocks === 0 && problems.size > 0) {
    throw new Error([...problems][0]);
  }
  return sentence();
}

// The image of a file in its sizes, with its place and its masks.
class TiffImage {
  static async open(file) {
    const { directories, isLittle, isCut } = await readDirectories(file);
    const image = new TiffImage();
    image.isCut = isCut;
    image.full = await Level.read(file, directories[0], isLittle);
    image.directory = directories[0];
    image.levels = [image.full];
    image.masks = new Map();
    const others = [];
    for (const directory of directories.slice(1)) {
      others.push(await Level.read(file, directory, isLittle).catch(() => null)); // Something else, such as a thumbnail.
    }
    for (const level of others.filter((each) => each !== null)) {
      if (level.isMask) {
        image.masks.set(`${level.width}/${level.height}`, level);
      } else if (level.isReduced && level.samples === image.full.samples && level.width < image.full.width) {
        image.levels.push(level);
      }
    }
    image.levels.sort((one, other) => other.width - one.width);
    image.place = await readGeoreference(image.directory);
    const text = await image.directory.values(TAGS.GdalNodata);
    image.nodata = typeof text === "string" && text.trim() !== "" ? Number(text) : null;
    image.#makeWorld();
    return image;
  }

  // The plane of the map is counted in pixels of the image, or in the smaller side of one where they are no squares.
  #makeWorld() {
    const { width, height } = this.full;
    const { corner, step, toGeo, toPlane } = this.place;
    if (!corner) {
      this.unit = [1, 1];
      this.extent = [width, height];
      this.world = {
        isDegrees: false,
        isPlane: true,
        limits: [0, 0, width, height],
        toGeo: ({ lat, lng }) => [lng, -lat],
        toMap: (x, y) => L.latLng(-y, x),
        format: ({ lat, lng }) => `column ${Math.floor(lng)}, row ${Math.floor(-lat)}`,
      };
      return;
    }
    const size = Math.min(step[0], Math.abs(step[1]));
    this.unit = [size / step[0], size / Math.abs(step[1])];
    this.extent = [width / this.unit[0], height / this.unit[1]];
    this.isUpward = step[1] > 0;
    const top = this.isUpward ? corner[1] + step[1] * height : corner[1];
    const digits = Math.min(8, Math.max(2, Math.ceil(-Math.log10(size / (Math.abs(corner[0]) > 400 ? 111000 : 1))) + 1));
    const geographic = ({ lat, lng }) => toGeo([corner[0] + lng * size, top + lat * size]);
    this.world = {
      isDegrees: true,
      isPlane: toGeo === toPlane,
      limits: toGeo === toPlane ? [-720, -90, 720, 90] : [-540, -90, 540, 90],
      toGeo: geographic,
      toMap: (x, y) => {
        const place = toPlane([x, y]);
        return place === null ? null : L.latLng((place[1] - top) / size, (place[0] - corner[0]) / size);
      },
      format: (place) => {
        const point = geographic(place);
        return point === null ? "" : `${nameDegrees(1, point[1], digits)}, ${nameDegrees(0, point[0], digits)}`;
      },
    };
  }

  // Returns the column and row of the full image at a place of the map's plane, which may lie outside.
  toPixel(x, y) {
    const row = y * this.unit[1];
    return [x * this.unit[0], this.isUpward ? this.full.height - row : row];
  }
}

// How the image is shown: which bands, in which colours; it draws tiles of the map.
class Picture {
  drawnBlocks = 0;
  told = "";
  viewSize = () => ({ x: 1000, y: 700 });

  constructor(image) {
    this.image = image;
    const { photometric, samples, bits } = image.full;
    const usual = image.full.format === 3 ? "viridis" : "grey";
    this.colourMap = findColourMap(recall("colours"), usual);
    const coloured = COLOURED[photometric] ?? 0;
    this.choices = [];
    if (photometric === PALETTE) {
      this.choices.push(["palette", "the palette"]);
    } else if (coloured > 0 && samples >= coloured && (bits === 8 || photometric === RGB)) {
      this.choices.push(["colour", "the colours"]);
    } else if (samples >= 3) {
      this.choices.push(["colour", "1, 2, 3 as colours"]);
    }
    for (let band = 0; band < Math.min(samples, 1000); band += 1) {
      this.choices.push([String(band + 1), `band ${band + 1}`]);
    }
  }

  // Takes one of the choices; "" is the best one.
  async choose(choice) {
    const { full, directory } = this.image;
    const isColour = this.choices[0][1] === "the colours" || this.choices[0][0] === "palette";
    const first = isColour ? this.choices[0][0] : "1";
    this.choice = this.choices.some(([each]) => each === choice) ? choice : first;
    this.extra = (await directory.values(TAGS.ExtraSamples)) ?? [];
    if (this.choice === "palette") {
      await this.#readPalette();
      this.bands = [0];
    } else if (this.choice === "colour") {
      this.bands = full.photometric === CMYK ? [0, 1, 2, 3] : [0, 1, 2];
    } else {
      this.bands = [Number(this.choice) - 1];
    }
    const colours = COLOURED[full.photometric] ?? 1;
    const alpha = this.extra.findIndex((each) => ALPHA.includes(each));
    this.alpha = alpha >= 0 && full.bits === 8 && colours + alpha < full.samples ? colours + alpha : null;
    this.isPlain = this.choice === "palette" || (full.array === Uint8Array && full.bits === 8);
    const given = recallNumbers("range", 2);
    this.stretch = given ? "own" : (RANGES.find(([name]) => name === recall("stretch"))?.[0] ?? (this.isPlain ? "stored" : "98"));
    this.range = given ?? (await this.findRange());
    this.colour();
  }

  colour() {
    this.colours = makeColours(this.colourMap);
    if (this.image.full.photometric === GREY_INVERTED && this.colourMap === "grey") {
      this.colours = makeColours("grey", true);
    }
  }

  async #readPalette() {
    const map = await this.image.directory.values(TAGS.ColorMap);
    const size = 2 ** this.image.full.bits;
    if (this.image.full.bits > 8 || map === null || map.length < 3 * size) {
      throw new Error("The palette of this image is missing or too short.");
    }
    // Some programs write bytes where two each are meant.
    const shift = Math.max(...map) > 255 ? 8 : 0;
    this.palette = new Uint32Array(256);
    for (let index = 0; index < size; index += 1) {
      const [red, green, blue] = [0, 1, 2].map((each) => map[index + each * size] >> shift);
      this.palette[index] = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    }
  }

  // Returns the range of values, by the stretch that is chosen, from the smallest overview or some blocks of it.
  async findRange() {
    if (this.stretch === "stored") {
      return [0, this.image.full.bits === 8 ? 255 : 2 ** this.image.full.bits - 1];
    }
    const level = this.image.levels.at(-1);
    const values = [];
    const blocks = Math.min(RANGE_BLOCKS, level.across * level.down);
    for (let each = 0; each < blocks; each += 1) {
      const index = Math.floor(((each + 0.5) * level.across * level.down) / blocks);
      const [x, y] = [index % level.across, Math.floor(index / level.across)];
      for (const band of level.isPlanar ? this.bands : [0]) {
        const block = await level.readBlock(x, y, band).catch(() => null); // What cannot be read is told of when it is drawn.
        if (block !== null) {
          values.push(this.#valuesOf(level, block, x, y));
        }
      }
    }
    const percent = RANGES.find(([name]) => name === this.stretch)[2];
    const length = values.reduce((sum, each) => sum + each.length, 0);
    const all = new Float64Array(length);
    let at = 0;
    for (const each of values) {
      all.set(each, at);
      at += each.length;
    }
    return findRange(all, percent, (value) => this.isMissing(value));
  }

  // Returns the values of the bands that are shown in a block, without what lies outside of the image.
  #valuesOf(level, block, x, y) {
    const { blockWidth, blockSamples } = level;
    const columns = Math.min(blockWidth, level.width - x * blockWidth);
    const rows = Math.min(block.length / (blockWidth * blockSamples), level.height - level.firstRowOf(y));
    const bands = level.isPlanar ? [0] : this.bands;
    const values = new Float64Array(columns * rows * bands.length);
    let at = 0;
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        for (const band of bands) {
          values[at] = block[(row * blockWidth + column) * blockSamples + band];
          at += 1;
        }
      }
    }
    return values;
  }

  isMissing(value) {
    const { nodata, full } = this.image;
    return Number.isNaN(value) || (nodata !== null && (value === nodata || (full.array === Float32Array && value === Math.fround(nodata))));
  }

  // Returns the level whose pixels are about as large as `size` pixels of the full image, and whether it can be read whole.
  #findLevel(size) {
    const { levels, full } = this.image;
    const fine = levels.findLast((level) => full.width / level.width <= size * 1.01) ?? full;
    const index = levels.indexOf(fine);
    const ratio = (size * fine.width) / full.width;
    const level = ratio > 2.5 && index + 1 < levels.length ? levels[index + 1] : fine;
    return { level, isSample: this.#costOf(level, (size * level.width) / full.width) > VIEW_BYTES };
  }

  // Returns the bytes that are decoded for a view in which a pixel of the screen is `ratio` pixels of a level.
  #costOf(level, ratio) {
    const view = this.viewSize();
    const rows = Math.min(level.height, view.y * ratio);
    const columns = level.isTiled ? Math.min(level.width, view.x * ratio) : level.width;
    const bands = level.isPlanar ? this.bands.length : level.samples;
    return rows * columns * bands * level.array.BYTES_PER_ELEMENT;
  }

  // Draws a tile of the map.
  async draw(canvas, { x, y, z }, signal) {
    const { full } = this.image;
    const scale = 2 ** z;
    const side = canvas.width;
    const perPixel = 256 / side / scale;
    const { level, isSample } = this.#findLevel(perPixel);
    this.told = isSample ? this.#sampleSentence(level) : "";
    const toColumn = level.width / full.width;
    const toRow = level.height / full.height;
    const columns = new Int32Array(side);
    const rows = new Int32Array(side);
    for (let index = 0; index < side; index += 1) {
      const [column, row] = this.image.toPixel(x * (256 / scale) + (index + 0.5) * perPixel, y * (256 / scale) + (index + 0.5) * perPixel);
      columns[index] = column < 0 || column >= full.width ? -1 : Math.min(level.width - 1, Math.floor(column * toColumn));
      rows[index] = row < 0 || row >= full.height ? -1 : Math.min(level.height - 1, Math.floor(row * toRow));
    }
    if (isSample) {
      this.#thin(level, columns, rows);
    }
    const image = new ImageData(side, side);
    const pixels = new Uint32Array(image.data.buffer);
    const mask = this.image.masks.get(`${level.width}/${level.height}`);
    const across = spans(columns, (column) => Math.floor(column / level.blockWidth));
    const down = spans(rows, (row) => level.blockOfRow(row));
    await Promise.all(
      down.flatMap((vertical) =>
        across.map(async (horizontal) => {
          const bands = await Promise.all(
            (level.isPlanar ? this.#planes() : [0]).map((band) => level.readBlock(horizontal.block, vertical.block, band, signal)),
          );
          if (bands.every((band) => band !== null)) {
            this.#paint(pixels, side, level, bands, horizontal, vertical, columns, rows);
            this.drawnBlocks += 1;
          }
        }),
      ),
    );
    if (mask !== undefined) {
      await hide(pixels, side, mask, columns, rows, signal);
    }
    signal.throwIfAborted();
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  #planes() {
    return this.alpha === null ? this.bands : [...this.bands, this.alpha];
  }

  #paint(pixels, side, level, blocks, horizontal, vertical, columns, rows) {
    const planes = this.#planes();
    const { blockWidth, blockSamples } = level;
    const firstRow = level.firstRowOf(vertical.block);
    const firstColumn = horizontal.block * blockWidth;
    const at = planes.map((band, index) => (level.isPlanar ? [blocks[index], 0] : [blocks[0], band]));
    const colourOf = this.choice === "palette" ? this.#byPalette(at) : this.bands.length === 1 ? this.#byValue(at) : this.#byBands(at, level);
    const [alphas, alpha] = this.alpha === null ? [null, 0] : at.at(-1);
    for (let j = vertical.start; j < vertical.stop; j += 1) {
      const line = (rows[j] - firstRow) * blockWidth - firstColumn;
      for (let i = horizontal.start; i < horizontal.stop; i += 1) {
        if (rows[j] >= 0 && columns[i] >= 0) {
          const place = (line + columns[i]) * blockSamples;
          const colour = colourOf(place);
          pixels[j * side + i] = alphas === null || colour === 0 ? colour : (colour & 0xffffff) | (alphas[place + alpha] << 24);
        }
      }
    }
  }

  // Each of these returns what makes a colour of the values at a place in the blocks; 0 is transparent.
  #byPalette([[block, offset]]) {
    return (place) => (this.isMissing(block[place + offset]) ? 0 : this.palette[block[place + offset]]);
  }

  #byValue([[block, offset]]) {
    const grade = makeGrade(this.range);
    return (place) => {
      const value = block[place + offset];
      return this.isMissing(value) ? 0 : this.colours[grade(value)];
    };
  }

  #byBands(at, level) {
    const convert = converters[level.photometric];
    const grade = this.stretch === "stored" ? (value) => value : makeGrade(this.range);
    const values = [0, 0, 0, 0];
    const count = this.bands.length;
    return (place) => {
      let missing = 0;
      for (let band = 0; band < count; band += 1) {
        values[band] = at[band][0][place + at[band][1]];
        missing += this.isMissing(values[band]) ? 1 : 0;
      }
      if (missing === count) {
        return 0;
      }
      convert?.(values);
      return (255 << 24) | (grade(values[2]) << 16) | (grade(values[1]) << 8) | grade(values[0]);
    };
  }

  // Has rows, or columns and rows, stand for those around them, so that few blocks are read.
  #thin(level, columns, rows) {
    const count = Math.max(4, Math.min(SAMPLE_BLOCKS, Math.floor(SAMPLE_BYTES / level.blockBytes)));
    if (!level.isTiled) {
      const every = Math.ceil(level.down / count);
      rows.forEach((row, index) => {
        if (row >= 0) {
          const block = Math.min(level.down - 1, Math.floor(level.blockOfRow(row) / every) * every + (every >> 1));
          const first = level.firstRowOf(block);
          const last = Math.min(level.height, first + level.blockHeight) - 1;
          rows[index] = Math.max(first, Math.min(last, row));
        }
      });
      return;
    }
    const every = Math.ceil(Math.sqrt((level.across * level.down) / count));
    const isTaken = (block) => block % every === every >> 1;
    columns.forEach((column, index) => {
      columns[index] = column >= 0 && isTaken(Math.floor(column / level.blockWidth)) ? column : -1;
    });
    rows.forEach((row, index) => {
      rows[index] = row >= 0 && isTaken(level.blockOfRow(row)) ? row : -1;
    });
  }

  #sampleSentence(level) {
    const what = level.isTiled ? "some of its tiles are" : "some of its rows are";
    return `The file has no overview that is small enough to be read for this view: ${what} shown. Zoom in to see all.`;
  }

  // Returns the values at a place of the map, of the level that is shown there.
  async tell({ lat, lng }, signal) {
    const { full } = this.image;
    const [column, row] = this.image.toPixel(lng, -lat);
    if (column < 0 || row < 0 || column >= full.width || row >= full.height) {
      return "";
    }
    const zoom = recallNumbers("at", 3)?.[2] ?? 0;
    const { level, isSample } = this.#findLevel(2 ** -Math.round(zoom) / Math.min(2, Math.ceil(devicePixelRatio)));
    if (isSample) {
      return "";
    }
    const x = Math.min(level.width - 1, Math.floor((column * level.width) / full.width));
    const y = Math.min(level.height - 1, Math.floor((row * level.height) / full.height));
    const [across, down] = [Math.floor(x / level.blockWidth), level.blockOfRow(y)];
    const values = [];
    for (const band of this.bands) {
      const block = await level.readBlock(across, down, band, signal);
      if (block === null) {
        return "no data";
      }
      const at = ((y - level.firstRowOf(down)) * level.blockWidth + x - across * level.blockWidth) * level.blockSamples;
      values.push(block[at + (level.isPlanar ? 0 : band)]);
    }
    if (values.every((value) => this.isMissing(value))) {
      return "no data";
    }
    if (this.choice === "colour") {
      converters[level.photometric]?.(values);
    }
    const overview = level === full ? "" : ` (of the overview 1:${Math.round(full.width / level.width)})`;
    return `${values.slice(0, 3).map(formatNumber).join(", ")}${overview}`;
  }
}

// How stored colours become red, green and blue, in place.
const clamp = (value) => Math.max(0, Math.min(255, Math.round(value)));
const converters = {
  [CMYK]: (values) => {
    const light = 255 - values[3];
    for (let index = 0; index < 3; index += 1) {
      values[index] = Math.round(((255 - values[index]) * light) / 255);
    }
  },
  [YCBCR]: (values) => {
    const [y, blue, red] = [values[0], values[1] - 128, values[2] - 128];
    values[0] = clamp(y + 1.402 * red);
    values[1] = clamp(y - 0.344136 * blue - 0.714136 * red);
    values[2] = clamp(y + 1.772 * blue);
  },
};

// Returns the runs of neighbours that lie in the same block, without those that lie nowhere.
function spans(numbers, blockOf) {
  const found = new Map();
  numbers.forEach((number, index) => {
    if (number >= 0) {
      const block = blockOf(number);
      const span = found.get(block) ?? { block, start: index, stop: index };
      span.start = Math.min(span.start, index);
      span.stop = Math.max(span.stop, index + 1);
      found.set(block, span);
    }
  });
  return [...found.values()];
}

// Takes out what the mask of the image leaves out.
async function hide(pixels, side, mask, columns, rows, signal) {
  const across = spans(columns, (column) => Math.floor(column / mask.blockWidth));
  const down = spans(rows, (row) => mask.blockOfRow(row));
  for (const vertical of down) {
    for (const horizontal of across) {
      const block = await mask.readBlock(horizontal.block, vertical.block, 0, signal);
      for (let j = vertical.start; j < vertical.stop; j += 1) {
        for (let i = horizontal.start; i < horizontal.stop; i += 1) {
          const row = rows[j] - mask.firstRowOf(vertical.block);
          const column = columns[i] - horizontal.block * mask.blockWidth;
          if (block === null || block[(row * mask.blockWidth + column) * mask.blockSamples] === 0) {
            pixels[j * side + i] = 0;
          }
        }
      }
    }
  }
}

function typeName({ format, bits }) {
  return `${{ 1: "uint", 2: "int", 3: "float" }[format]}${bits}`;
}

function showControls(picture, repaint) {
  const form = document.getElementById("controls");
  const scale = element("canvas", { className: "scale", role: "img", "aria-label": "The colours, from low to high" });
  const changed = async (isOfRange) => {
    if (isOfRange) {
      picture.range = await picture.findRange();
    }
    build();
    picture.colour();
    remember({
      bands: picture.choice,
      colours: picture.colourMap,
      stretch: picture.stretch === "own" ? null : picture.stretch,
      range: picture.stretch === "own" ? picture.range.join(",") : null,
    });
    await repaint();
  };
  const build = () => {
    const focused = document.activeElement?.closest("label")?.firstChild?.textContent;
    const isNumbers = picture.choice !== "palette";
    const isOne = isNumbers && picture.bands.length === 1;
    const stretches = [
      ...(picture.isPlain ? [["stored", "as stored"]] : []),
      ...RANGES.map(([name, text]) => [name, text]),
      ...(picture.stretch === "own" ? [["own", "as below"]] : []),
    ];
    const setEnd = (index) => (value) => {
      picture.range[index] = value;
      picture.stretch = "own";
      changed(false);
    };
    form.replaceChildren(
      ...(picture.choices.length > 1
        ? [
            chooser("Shown", picture.choices, picture.choice, async (choice) => {
              remember({ range: null });
              await picture.choose(choice);
              changed(false);
            }),
          ]
        : []),
      ...(isOne
        ? [
            chooser("Colours", COLOUR_MAPS.map((name) => [name, name]), picture.colourMap, (name) => {
              picture.colourMap = name;
              changed(false);
            }),
          ]
        : []),
      ...(isNumbers
        ? [
            chooser("Range", stretches, picture.stretch, (name) => {
              picture.stretch = name;
              changed(name !== "own");
            }),
            numberField("from", Number(picture.range[0].toPrecision(6)), setEnd(0)),
            ...(isOne ? [scale] : []),
            numberField("to", Number(picture.range[1].toPrecision(6)), setEnd(1)),
          ]
        : []),
    );
    form.hidden = form.childElementCount === 0;
    drawScale(scale, picture.colours);
    [...form.querySelectorAll("label")].find((label) => label.firstChild.textContent === focused)?.querySelector("select, input")?.focus();
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  build();
}
