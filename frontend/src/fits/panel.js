// An image with what chooses how it is shown: plane, stretch, colours and part.

import { recall, recallNumber, remember } from "../common/address.js";
import { COLOUR_MAPS, drawScale, findColourMap, makeColours } from "../common/colours.js";
import { button, chooser, tick } from "../common/forms.js";
import { element, fail, formatBytes, say } from "../common/page.js";
import { percentile, shortest } from "../common/values.js";
import { BUDGET_BYTES, Layer, planLayer } from "./layers.js";
import { Stage } from "./stage.js";
import { STRETCHES, paint } from "./stretch.js";
import { describePlane, makeWorld } from "./wcs.js";

// The first view has about so many cells; what is small is read whole.
const VIEW_CELLS = [1000, 800];
const WHOLE_BYTES = 4_000_000;
const WHOLE_PIXELS = 2_000_000;

// What somebody may ask for at a time.
const MOST_BYTES = 256_000_000;

const SETTLE_MILLISECONDS = 150;
const KEPT_LAYERS = 6;

const DEFAULTS = { stretch: "asinh", colours: "grey", black: 0.5, white: 99.5 };

export class ImagePanel {
  #stage;
  #image = null;
  #header = null;
  #plane = [];
  #base = null;
  #details = [];
  #sorted = new Float64Array(0);
  #reading = new AbortController();
  #pointing = new AbortController();
  #settling = 0;
  #isFirst = true;
  #world = null;
  #isSingle = false;
  #note = "";

  #canvas = element("canvas", { role: "img", tabIndex: 0 });
  #readout = element("output", { className: "readout", "aria-live": "off" });
  #legend = element("div", { className: "legend" });
  #ramp = element("canvas", { "aria-hidden": "true" });
  #ends = [element("span"), element("span")];
  #planes = element("span", { className: "planes" });
  #stretch = chooser("Stretch", pairs(Object.keys(STRETCHES)), findStretch(recall("stretch")), () => this.#recolour());
  #colours = chooser("Colours", pairs(COLOUR_MAPS), findColourMap(recall("colours"), DEFAULTS.colours), () => this.#recolour());
  #invert = tick("Inverted", recall("invert") === "1", () => this.#recolour());
  #black = element("input", { type: "range", min: 0, max: 1000, step: "any" });
  #white = element("input", { type: "range", min: 0, max: 1000, step: "any" });
  #finer = element("button", { type: "button", hidden: true });

  // The controls that belong to images.
  controls;

  constructor(container) {
    this.#black.value = String(1000 * Math.cbrt(recallNumber("black", DEFAULTS.black, { least: 0, most: 50 }) / 50));
    this.#white.value = String(1000 - 1000 * Math.cbrt((100 - recallNumber("white", DEFAULTS.white, { least: 50, most: 100 })) / 50));
    this.#legend.append(this.#ends[0], this.#ramp, this.#ends[1]);
    const help = element("p", { id: "help", className: "unseen" },
      "Arrow keys move a cross and say the value below it; with Shift they move the image; plus and minus zoom, 0 shows all, 1 shows each pixel as one.");
    this.#canvas.setAttribute("aria-describedby", "help");
    container.append(this.#canvas, this.#readout, this.#legend, help);
    this.#stage = new Stage(this.#canvas, { moved: () => this.#settle(), pointed: (...where) => this.#point(...where) });
    this.controls = [
      this.#planes,
      this.#stretch,
      element("label", {}, "Black", this.#black),
      element("label", {}, "White", this.#white),
      this.#colours,
      this.#invert,
      element("span", { className: "buttons", role: "group", "aria-label": "Zoom" },
        button("−", "Zoom out", () => this.#stage.zoom(1 / 1.5)),
        button("+", "Zoom in", () => this.#stage.zoom(1.5)),
        button("All", "All of the image", () => this.#stage.fit()),
        button("1:1", "1:1, each pixel as one", () => this.#stage.zoomTo(1))),
      this.#finer,
    ];
    for (const control of [this.#black, this.#white]) {
      control.addEventListener("input", () => this.#recolour());
    }
    this.#finer.addEventListener("click", () => this.#refine(MOST_BYTES));
  }

  // Shows an image; `note` is added to what is said of it.
  async open(image, header, note) {
    [this.#image, this.#header, this.#note] = [image, header, note];
    this.#isSingle = header.number("BITPIX") === -32 || header.number("ZBITPIX") === -32;
    this.#world = makeWorld(header);
    const given = this.#isFirst ? recallNumber("zoom", 0, { least: 0, most: 1000 }) : 0;
    const view = given > 0 ? { x: recallNumber("x", image.width / 2), y: recallNumber("y", image.height / 2), scale: given } : null;
    const planes = this.#isFirst ? (recall("plane") ?? "").split(",").map(Number) : [];
    this.#isFirst = false;
    this.#plane = image.axes.slice(2).map((length, axis) => {
      const plane = planes[axis];
      return Number.isInteger(plane) && plane >= 1 && plane <= length ? plane - 1 : 0;
    });
    this.#offerPlanes();
    this.#base = null;
    this.#details = [];
    this.#sorted = new Float64Array(0);
    this.#stage.open(image.width, image.height, view);
    return this.#readPlane();
  }

  // Stops what is read, as another part of the file is looked at.
  close() {
    this.#reading.abort();
    this.#pointing.abort();
    clearTimeout(this.#settling);
    [this.#image, this.#base, this.#details] = [null, null, []]; // Also where the canvas still changes its size.
  }

  #offerPlanes() {
    this.#planes.replaceChildren();
    this.#plane.forEach((place, axis) => {
      const length = this.#image.axes[axis + 2];
      if (length === 1) {
        return;
      }
      const name = this.#header.text(`CTYPE${axis + 3}`) || `Axis ${axis + 3}`;
      const slider = element("input", { type: "range", min: 1, max: length, step: 1, value: place + 1 });
      const field = element("input", { type: "number", min: 1, max: length, step: 1, value: place + 1, className: "short", "aria-label": `${name}, number of the plane` });
      const choose = (control, twin) => {
        const plane = Math.round(Number(control.value));
        if (plane >= 1 && plane <= length) {
          twin.value = String(plane);
          this.#plane[axis] = plane - 1;
          remember({ plane: this.#plane.map((each) => each + 1).join(",") });
          this.#stop();
          say("loading", "Reading …");
          this.#settling = setTimeout(() => this.#attempt(() => this.#readPlane()), SETTLE_MILLISECONDS);
        }
      };
      slider.addEventListener("input", () => choose(slider, field));
      field.addEventListener("change", () => choose(field, slider));
      this.#planes.append(element("label", {}, name, slider), field);
    });
  }

  async #readPlane() {
    const { width, height } = this.#image;
    const isSmall = width * height <= WHOLE_PIXELS && (this.#image.measureRows(0, width) * height) / this.#image.rowsTogether <= WHOLE_BYTES;
    const steps = [width, height].map((length, axis) => (isSmall ? 1 : Math.max(1, Math.floor(length / VIEW_CELLS[axis]))));
    const step = Math.max(...steps);
    const layer = planLayer(this.#image, [0, 0, width, height], this.#stage.aspect === 1 ? [step, step] : steps);
    this.#details = [];
    await this.#read(layer, (isDone) => {
      this.#base = this.#dress(layer);
      this.#sorted = isDone || this.#sorted.length === 0 ? layer.sorted() : this.#sorted;
      this.#recolour();
    });
    this.#settle();
    return this.#tell();
  }

  // Reads a layer, and calls `show(isDone)` now and then.
  async #read(layer, show) {
    this.#stop();
    const reading = this.#reading;
    say("loading", "Reading …");
    let shown = performance.now();
    const progress = () => {
      if (!reading.signal.aborted && performance.now() - shown > 200) {
        show(false);
        shown = performance.now();
      }
    };
    await this.#image.fill(layer, this.#plane, { signal: reading.signal, progress });
    reading.signal.throwIfAborted();
    layer.isWhole = true;
    show(true);
  }

  #stop() {
    clearTimeout(this.#settling);
    this.#reading.abort();
    this.#reading = new AbortController();
  }

  // Once nobody moves the image, what is seen is read as finely as it is shown.
  #settle() {
    clearTimeout(this.#settling);
    this.#remember();
    if (this.#base?.layer.isWhole) {
      this.#settling = setTimeout(() => this.#refine(BUDGET_BYTES), SETTLE_MILLISECONDS);
    }
  }

  #remember() {
    if (this.#image !== null) {
      const { x, y, scale, isFitted } = this.#stage.view;
      const digits = (value) => Number(value.toPrecision(7));
      remember(isFitted ? { x: null, y: null, zoom: null } : { x: digits(x), y: digits(y), zoom: digits(scale) });
    }
  }

  // How many pixels of the image are one of the screen's.
  #wantedSteps() {
    const { scale } = this.#stage.view;
    return [scale, scale * this.#stage.aspect].map((each) => Math.max(1, Math.floor(1 / each)));
  }

  // Returns the finest layer that shows all that is seen.
  #current() {
    const { region } = this.#stage;
    const all = [this.#base, ...this.#details].filter((each) => each.layer.contains(region));
    return all.reduce((best, each) => (each.layer.stepX * each.layer.stepY <= best.layer.stepX * best.layer.stepY ? each : best)).layer;
  }

  async #refine(budget) {
    const steps = this.#wantedSteps();
    const current = this.#current();
    if (!isCoarser(current, steps)) {
      this.#tell();
      return;
    }
    const [x0, y0, x1, y1] = this.#stage.region;
    const [marginX, marginY] = [Math.ceil((x1 - x0) / 10), Math.ceil((y1 - y0) / 10)];
    const { width, height } = this.#image;
    const region = [Math.max(0, x0 - marginX), Math.max(0, y0 - marginY), Math.min(width, x1 + marginX), Math.min(height, y1 + marginY)];
    const layer = planLayer(this.#image, region, steps, budget);
    if (layer.stepX * layer.stepY * 1.2 >= current.stepX * current.stepY) {
      this.#tell();
      return;
    }
    await this.#attempt(async () => {
      await this.#read(layer, () => {
        this.#details = [...this.#details.filter((each) => each.layer !== layer), this.#dress(layer)].slice(-KEPT_LAYERS);
        this.#arrange();
      });
      this.#tell();
    });
  }

  // Runs work that somebody or a pause has begun; who has gone on to something else is not told how it ended.
  async #attempt(work) {
    const { signal } = this.#reading;
    try {
      await work();
    } catch (error) {
      if (error.name !== "AbortError" && !signal.aborted) {
        fail(error);
      }
    }
  }

  #levels() {
    const blackPercent = 50 * (Number(this.#black.value) / 1000) ** 3;
    const whitePercent = 100 - 50 * ((1000 - Number(this.#white.value)) / 1000) ** 3;
    return {
      blackPercent,
      whitePercent,
      black: percentile(this.#sorted, blackPercent),
      white: percentile(this.#sorted, whitePercent),
      stretch: this.#stretch.control.value,
      colours: makeColours(this.#colours.control.value, this.#invert.control.checked),
    };
  }

  #recolour() {
    const levels = this.#levels();
    for (const each of [this.#base, ...this.#details]) {
      if (each !== null) {
        each.bitmap.getContext("2d").putImageData(paint(each.layer, levels), 0, 0);
      }
    }
    drawScale(this.#ramp, levels.colours);
    [levels.black, levels.white].forEach((value, index) => (this.#ends[index].textContent = Number.isNaN(value) ? "" : String(Number(value.toPrecision(5)))));
    this.#black.setAttribute("aria-valuetext", `${round(levels.blackPercent)} percent, ${round(levels.black)}`);
    this.#white.setAttribute("aria-valuetext", `${round(levels.whitePercent)} percent, ${round(levels.white)}`);
    const differs = (value, otherwise) => (value === otherwise ? null : value);
    remember({
      stretch: differs(levels.stretch, DEFAULTS.stretch),
      colours: differs(this.#colours.control.value, DEFAULTS.colours),
      invert: this.#invert.control.checked ? "1" : null,
      black: differs(round(levels.blackPercent), DEFAULTS.black),
      white: differs(round(levels.whitePercent), DEFAULTS.white),
    });
    this.#arrange();
  }

  #dress(layer) {
    const all = [this.#base, ...this.#details];
    const made = all.find((each) => each?.layer === layer) ?? { layer, bitmap: new OffscreenCanvas(layer.columns, layer.rows) };
    made.bitmap.getContext("2d").putImageData(paint(layer, this.#levels()), 0, 0);
    return made;
  }

  // The coarsest below, the finest above.
  #arrange() {
    const size = ({ layer }) => layer.stepX * layer.stepY;
    this.#stage.layers = [this.#base, ...this.#details.toSorted((one, other) => size(other) - size(one))].filter(Boolean);
    this.#stage.draw();
  }

  // Says what is seen, once it is drawn.
  #tell() {
    const { width, height, axes } = this.#image;
    const current = this.#current();
    const steps = this.#wantedSteps();
    const planes = this.#plane.map((plane, axis) => (axes[axis + 2] > 1 ? describePlane(this.#header, axis + 3, plane + 1) : "")).filter(Boolean);
    const said = [`${axes.map((length) => length.toLocaleString("en")).join(" × ")} ${axes.length === 1 ? "values" : "pixels"}`, ...planes];
    const whole = planLayer(this.#image, this.#stage.region, steps, Infinity);
    const isCoarse = isCoarser(current, steps);
    if (isCoarse) {
      said.push(current.samples > 0 ? `a few pixels of every ${ordinal(current.stepY)} row were read` : `every ${ordinal(current.stepY)} row was read`);
    }
    this.#finer.hidden = !isCoarse || whole.cost > MOST_BYTES;
    this.#finer.textContent = `Read finely (${formatBytes(whole.cost)})`;
    if (this.#sorted.length === 0) {
      said.push("no pixel of it has a value");
    }
    if (this.#note !== "") {
      said.push(this.#note);
    }
    const range = `${this.#ends[0].textContent} to ${this.#ends[1].textContent}`;
    this.#canvas.setAttribute("aria-label", `Image of ${width} × ${height} pixels, values from ${range} in ${this.#colours.control.value} colours`);
    this.#stage.drawNow();
    const sentence = said.join(" · ");
    say("ready", sentence);
    return sentence;
  }

  #point(where, isByKey = false) {
    this.#pointing.abort();
    this.#readout.setAttribute("aria-live", isByKey ? "polite" : "off");
    if (where === null || this.#base === null) {
      this.#readout.textContent = "";
      return;
    }
    const [x, y] = where;
    const exact = [this.#base, ...this.#details].find(({ layer }) => layer.isExact && layer.isWhole && layer.contains([x, y, x + 1, y + 1]));
    const world = this.#world === null ? "" : `   ${this.#world(x + 1, y + 1)}`;
    const write = (value) => {
      const shown = Number.isNaN(value) ? "no value" : String(this.#isSingle ? shortest(Math.fround(value)) : value);
      this.#readout.textContent = `x ${x + 1}  y ${y + 1}   ${shown}${world}`;
    };
    if (exact !== undefined) {
      write(exact.layer.at(x, y));
      return;
    }
    this.#readout.textContent = `x ${x + 1}  y ${y + 1}   …${world}`;
    this.#lookUp(x, y, write);
  }

  // Reads one pixel, where somebody stays.
  #lookUp(x, y, write) {
    this.#pointing = new AbortController();
    const { signal } = this.#pointing;
    setTimeout(async () => {
      if (!signal.aborted) {
        try {
          const pixel = new Layer([x, y, x + 1, y + 1], 1, 1);
          await this.#image.fill(pixel, this.#plane, { signal });
          write(pixel.at(x, y));
        } catch (error) {
          if (error.name !== "AbortError" && !signal.aborted) {
            fail(error);
          }
        }
      }
    }, SETTLE_MILLISECONDS);
  }
}

function isCoarser(layer, [stepX, stepY]) {
  return layer.stepX > stepX || layer.stepY > stepY || layer.samples > 0;
}

function pairs(names) {
  return names.map((name) => [name, name]);
}

function findStretch(name) {
  return Object.hasOwn(STRETCHES, name) ? name : DEFAULTS.stretch;
}

function round(value) {
  return Number(value.toPrecision(4));
}

function ordinal(number) {
  if (number === 1) {
    return "single";
  }
  const ending = number % 100 >= 11 && number % 100 <= 13 ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number.toLocaleString("en")}${ending}`;
}
