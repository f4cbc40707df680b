// Shows a window of an array: two axes as a picture, one as a line, none as a value, texts as a table.

import { recall, recallNumbers, remember } from "../common/address.js";
import { COLOUR_MAPS, drawScale, findColourMap, makeColours } from "../common/colours.js";
import { chooser, numberField, slider, tick } from "../common/forms.js";
import { element, factList, fail, formatBytes, say } from "../common/page.js";
import { RANGES, findRange, formatNumber, makeGrade } from "../common/values.js";

const ASK_BYTES = 64 * 1024 * 1024;
const MAX_ROWS = 500;
const MAX_COLUMNS = 50;
const MAX_SCALE = 24;

const form = document.getElementById("controls");

export class SliceView {
  #stage;
  #array;
  #controller = new AbortController();
  #allowedBytes = ASK_BYTES;
  #picture = element("div", { className: "picture" });
  #where = element("p", { className: "where", role: "status" });
  #resizing;

  constructor(stage, array) {
    this.#stage = stage;
    this.#array = array;
    const rank = array.shape.length;
    const axes = recallNumbers("axes", 2);
    // The axis down and the one to the right; a line has the second one only.
    const isSound = axes !== null && axes[0] !== axes[1] && axes.every((axis, side) => Number.isInteger(axis) && axis < rank && axis >= (side === 0 ? -1 : 0));
    this.down = isSound ? axes[0] : rank - 2;
    this.right = isSound ? axes[1] : rank - 1;
    const at = recallNumbers("at", rank);
    this.at = array.shape.map((side, axis) => Math.max(0, Math.min(side - 1, Math.floor(at?.[axis] ?? (this.#isShown(axis) ? 0 : (side - 1) / 2)))));
    this.colourMap = findColourMap(recall("colours"), "viridis");
    this.range = recallNumbers("range", 2);
    this.stretch = this.range ? "own" : (RANGES.find(([name]) => name === recall("stretch"))?.[0] ?? "98");
    this.isUpward = recall("up") === "1";
    this.#resizing = new ResizeObserver(() => this.#fit());
    this.#resizing.observe(stage);
    document.getElementById("facts").textContent = [array.typeName, array.shape.map((side) => side.toLocaleString("en")).join(" × ")].join(" · ");
    const { attributes } = array;
    const hasAttributes = Object.keys(attributes ?? {}).length > 0;
    stage.append(
      this.#picture,
      this.#where,
      element(
        "details",
        { className: "about" },
        element("summary", {}, "About this array"),
        describe(array),
        ...(hasAttributes ? [element("pre", { tabIndex: 0, "aria-label": "Attributes", role: "region" }, JSON.stringify(attributes, null, 1).slice(0, 100_000))] : []),
      ),
    );
    form.onsubmit = (event) => event.preventDefault();
    this.#showControls();
  }

  close() {
    this.#controller.abort();
    this.#resizing.disconnect();
    form.hidden = true;
  }

  #isShown(axis) {
    return axis === this.down || axis === this.right;
  }

  // Returns [start, stop] for the axes that are shown and an index for the others.
  #findWindow() {
    const { array, shown } = { array: this.#array, shown: this.down >= 0 ? 2 : 1 };
    return array.shape.map((side, axis) => {
      if (!this.#isShown(axis)) {
        return this.at[axis];
      }
      const length = array.isText ? Math.min(side, axis === this.right && shown === 2 ? MAX_COLUMNS : MAX_ROWS) : array.sideOf(axis, shown);
      const start = Math.max(0, Math.min(this.at[axis], side - length));
      return [start, start + length];
    });
  }

  // Reads the window and shows it; returns the sentence that tells of it. An older call ends without effect.
  async show() {
    this.#controller.abort();
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    const array = this.#array;
    const window = this.#findWindow();
    this.window = window;
    remember({ at: this.at.join(","), axes: array.shape.length > 1 ? `${this.down},${this.right}` : null });
    say("loading", "Reading …");
    if (array.shape.includes(0)) {
      return this.#tell("The array is empty.");
    }
    const { bytes, chunks } = array.costOf(window);
    if (bytes > this.#allowedBytes) {
      this.#ask(bytes, chunks);
      return this.#tell("");
    }
    try {
      const values = await array.read(window, signal);
      signal.throwIfAborted();
      this.#draw(values);
    } catch (error) {
      if (!signal.aborted) {
        throw new Error(error.cause?.message ?? error.message);
      }
      return "";
    }
    return this.#tell(this.#sentence());
  }

  #tell(sentence) {
    say("ready", sentence);
    return sentence;
  }

  // Shows what has been chosen anew.
  #again() {
    this.show().catch(fail);
  }

  #ask(bytes, chunks) {
    const many = chunks === 1 ? "one chunk" : `${chunks} chunks`;
    const button = element("button", { type: "button" }, `Read it (up to ${formatBytes(bytes)})`);
    button.addEventListener("click", () => {
      this.#allowedBytes = bytes;
      this.#again();
    });
    this.#where.textContent = "";
    this.#picture.replaceChildren(
      element("div", { className: "ask" }, element("p", {}, `This slice goes through ${many} with ${formatBytes(bytes)}, unpacked.`), button),
    );
  }

  #sentence() {
    const { shape, names, note } = this.#array;
    const parts = [this.down, this.right]
      .filter((axis) => axis >= 0 && this.window[axis][1] - this.window[axis][0] < shape[axis])
      .map((axis) => `${names[axis]}: ${this.window[axis][0].toLocaleString("en")} to ${(this.window[axis][1] - 1).toLocaleString("en")} of ${shape[axis].toLocaleString("en")}`);
    return [parts.length ? `A window is shown. ${parts.join("; ")}.` : "", note ?? ""].filter(Boolean).join(" ");
  }

  #draw(values) {
    const array = this.#array;
    if (array.shape.length === 0) {
      this.#picture.replaceChildren(element("p", { className: "scalar" }, String(values.at())));
    } else if (array.isText) {
      this.#drawTable(values);
    } else if (this.down < 0) {
      this.#drawLine(values);
    } else {
      this.#drawPicture(values);
    }
  }

  #drawTable(values) {
    const [rows, columns] = this.#sides();
    const at = this.#reader(values);
    const [top, left] = [this.down < 0 ? this.window[this.right][0] : this.window[this.down][0], this.down < 0 ? 0 : this.window[this.right][0]];
    const isList = this.down < 0;
    const head = element("tr", {}, element("td"), ...Array.from({ length: isList ? 1 : columns }, (_, x) => element("th", { scope: "col" }, isList ? this.#array.names[this.right] : String(left + x))));
    const body = Array.from({ length: Math.min(isList ? columns : rows, MAX_ROWS) }, (_, y) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, String(top + y)),
        ...Array.from({ length: isList ? 1 : columns }, (_, x) => element("td", {}, String(isList ? at(0, y) : at(y, x)).slice(0, 2000))),
      ),
    );
    this.#picture.replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
  }

  // Returns the window's rows and columns.
  #sides() {
    const length = (axis) => (axis < 0 ? 1 : this.window[axis][1] - this.window[axis][0]);
    return [length(this.down), length(this.right)];
  }

  // Returns what gives the value of a row and column of the window.
  #reader(values) {
    if (this.down < 0) {
      return (_, x) => values.at(x);
    }
    return this.down < this.right ? (y, x) => values.at(y, x) : (y, x) => values.at(x, y);
  }

  #drawPicture(values) {
    const [rows, columns] = this.#sides();
    const at = this.#reader(values);
    this.values = new Float64Array(rows * columns);
    for (let y = 0; y < rows; y += 1) {
      for (let x = 0; x < columns; x += 1) {
        this.values[y * columns + x] = Number(at(y, x));
      }
    }
    this.valueAt = at;
    if (!this.canvas?.isConnected || this.canvas.dataset.kind !== "picture") {
      this.canvas = element("canvas", { className: "cells", tabIndex: 0, role: "img" });
      this.canvas.dataset.kind = "picture";
      this.#picture.replaceChildren(this.canvas);
      this.#follow(this.canvas);
    }
    this.canvas.setAttribute("aria-label", this.#label());
    this.canvas.width = columns;
    this.canvas.height = rows;
    this.#paint();
    this.#fit();
    this.#point(null);
  }

  #label() {
    const { names, path } = this.#array;
    const fixed = this.window.map((each, axis) => (Array.isArray(each) ? "" : `${names[axis]} ${each}`)).filter(Boolean);
    const axes = this.down < 0 ? names[this.right] : `${names[this.down]} down, ${names[this.right]} to the right`;
    return [`${path || "The array"}: ${axes}`, ...fixed].join(", ");
  }

  #paint() {
    if (this.stretch !== "own") {
      this.range = findRange(this.values, RANGES.find(([name]) => name === this.stretch)[2]);
    }
    const grade = makeGrade(this.range);
    const colours = makeColours(this.colourMap);
    const { width, height } = this.canvas;
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let row = 0; row < height; row += 1) {
      const line = (this.isUpward ? height - 1 - row : row) * width;
      for (let column = 0; column < width; column += 1) {
        const value = this.values[line + column];
        pixels[row * width + column] = Number.isNaN(value) ? 0 : colours[grade(value)];
      }
    }
    this.canvas.getContext("2d").putImageData(image, 0, 0);
    this.#showRange(colours);
  }

  // Makes the picture as large as there is room.
  #fit() {
    if (this.canvas?.dataset.kind === "line" && this.canvas.isConnected) {
      this.#plot();
    }
    if (this.canvas?.dataset.kind !== "picture") {
      return;
    }
    const [rows, columns] = this.#sides();
    const room = [this.#stage.clientWidth - 2, Math.max(240, this.#stage.parentElement.clientHeight - 130)];
    const scale = Math.min(room[0] / columns, room[1] / rows, MAX_SCALE);
    this.canvas.style.width = `${Math.max(1, Math.round(columns * scale))}px`;
    this.canvas.style.height = `${Math.max(1, Math.round(rows * scale))}px`;
    this.canvas.classList.toggle("large", scale > 1);
  }

  #drawLine(values) {
    const [, columns] = this.#sides();
    this.values = Float64Array.from({ length: columns }, (_, x) => Number(values.at(x)));
    this.valueAt = (_, x) => values.at(x);
    if (!this.canvas?.isConnected || this.canvas.dataset.kind !== "line") {
      this.canvas = element("canvas", { className: "line", tabIndex: 0, role: "img" });
      this.canvas.dataset.kind = "line";
      this.#picture.replaceChildren(this.canvas);
      this.#follow(this.canvas);
    }
    this.canvas.setAttribute("aria-label", this.#label());
    this.range = findRange(this.values, 0);
    this.#plot();
    this.#point(null);
  }

  // Draws the line, from the lowest to the highest value of each column of pixels.
  #plot() {
    const { canvas, values } = this;
    const density = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * density;
    canvas.height = height * density;
    const context = canvas.getContext("2d");
    context.scale(density, density);
    const { color, accentColor, borderTopColor } = getComputedStyle(canvas);
    const [low, high] = this.range;
    const [left, right, top, bottom] = [8, width - 8, 20, height - 24];
    const xOf = (index) => left + ((right - left) * index) / Math.max(1, values.length - 1);
    const yOf = (value) => bottom - ((bottom - top) * (value - low)) / (high - low);
    context.strokeStyle = borderTopColor;
    context.strokeRect(left, top, right - left, bottom - top);
    context.fillStyle = color;
    context.font = "12px system-ui, sans-serif";
    const start = this.window[this.right][0];
    context.fillText(formatNumber(Number(high.toPrecision(7))), left, top - 6);
    context.fillText(`${this.#array.names[this.right]} ${start.toLocaleString("en")}`, left, bottom + 16);
    context.textAlign = "right";
    context.fillText((start + values.length - 1).toLocaleString("en"), right, bottom + 16);
    context.textAlign = "left";
    context.fillText(formatNumber(Number(low.toPrecision(7))), left + 4, bottom - 6);
    context.strokeStyle = accentColor;
    context.fillStyle = accentColor;
    context.lineWidth = 1.4;
    context.lineJoin = "round";
    context.beginPath();
    let isDown = false;
    const every = Math.max(1, Math.floor(values.length / (width * 2)));
    for (let index = 0; index < values.length; index += every) {
      const ends = values.subarray(index, index + every).filter(Number.isFinite);
      if (ends.length === 0) {
        isDown = false;
        continue;
      }
      for (const value of every === 1 ? ends : [Math.min(...ends), Math.max(...ends)]) {
        context[isDown ? "lineTo" : "moveTo"](xOf(index), yOf(value));
        isDown = true;
      }
    }
    context.stroke();
    if (values.length <= 60) {
      values.forEach((value, index) => {
        if (Number.isFinite(value)) {
          context.beginPath();
          context.arc(xOf(index), yOf(value), 2.5, 0, 7);
          context.fill();
        }
      });
    }
  }

  // Tells the value under the pointer, or at the cell that the arrow keys lead to.
  #follow(canvas) {
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const [rows, columns] = this.#sides();
      const inset = canvas.dataset.kind === "line" ? 8 : 0;
      const x = Math.floor(((event.clientX - box.x - inset) / (box.width - 2 * inset)) * columns);
      const y = Math.floor(((event.clientY - box.y) / box.height) * rows);
      this.#point([Math.max(0, Math.min(rows - 1, this.isUpward ? rows - 1 - y : y)), Math.max(0, Math.min(columns - 1, x))]);
    });
    canvas.addEventListener("pointerleave", () => this.#point(null));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (step === undefined) {
        return;
      }
      event.preventDefault();
      const [rows, columns] = this.#sides();
      const down = this.isUpward && canvas.dataset.kind === "picture" ? -step[0] : step[0];
      if (event.shiftKey) {
        this.#pan(down, step[1]);
        return;
      }
      const [y, x] = this.cell ?? [rows >> 1, columns >> 1];
      this.#point([Math.max(0, Math.min(rows - 1, y + down)), Math.max(0, Math.min(columns - 1, x + step[1]))]);
    });
  }

  // Moves the window by half of itself.
  #pan(down, right) {
    for (const [axis, way] of [[this.down, down], [this.right, right]]) {
      if (axis >= 0) {
        const [start, stop] = this.window[axis];
        const length = stop - start;
        this.at[axis] = Math.max(0, Math.min(this.#array.shape[axis] - length, start + Math.round((way * length) / 2)));
      }
    }
    this.#showControls();
    this.#again();
  }

  #point(cell) {
    this.cell = cell;
    if (cell === null) {
      this.#where.textContent = this.down < 0 ? "" : `${this.#array.names[this.right]} →, ${this.#array.names[this.down]} ${this.isUpward ? "↑" : "↓"}`;
      return;
    }
    const { names } = this.#array;
    const [y, x] = cell;
    const places = [[this.down, y], [this.right, x]].filter(([axis]) => axis >= 0);
    const told = places.map(([axis, index]) => `${names[axis]} ${this.window[axis][0] + index}`).join(", ");
    const value = this.valueAt(y, x);
    this.#where.textContent = `${told}: ${typeof value === "number" ? formatNumber(value) : String(value)}`;
  }

  #showRange(colours) {
    const [low, high] = this.fields ?? [];
    if (low) {
      low.querySelector("input").value = String(Number(this.range[0].toPrecision(6)));
      high.querySelector("input").value = String(Number(this.range[1].toPrecision(6)));
      drawScale(this.scale, colours);
    }
  }

  #showControls() {
    const array = this.#array;
    const { shape, names } = array;
    const rank = shape.length;
    const isPicture = this.down >= 0 && !array.isText;
    const parts = [];
    if (rank > 1) {
      const options = names.map((name, axis) => [String(axis), name]);
      parts.push(
        chooser("Down", [...options, ["-1", "nothing: a line"]], String(this.down), (axis) => this.#setAxes(Number(axis), this.right)),
        chooser("Right", options, String(this.right), (axis) => this.#setAxes(this.down, Number(axis))),
      );
    }
    const window = this.#findWindow();
    shape.forEach((side, axis) => {
      const isWindow = Array.isArray(window[axis]);
      const last = isWindow ? side - (window[axis][1] - window[axis][0]) : side - 1;
      if (last > 0) {
        const name = (value) => (isWindow ? `from ${value.toLocaleString("en")}` : `${value.toLocaleString("en")} / ${(side - 1).toLocaleString("en")}`);
        parts.push(
          slider(names[axis], last, isWindow ? window[axis][0] : this.at[axis], (value) => {
            this.at[axis] = value;
            this.#again();
          }, name),
        );
      }
    });
    if (isPicture) {
      this.scale = element("canvas", { className: "scale", role: "img", "aria-label": "The colours, from low to high" });
      const setEnd = (index) => (value) => {
        this.range[index] = value;
        this.#setStretch("own");
      };
      this.fields = [numberField("from", 0, setEnd(0)), numberField("to", 1, setEnd(1))];
      const stretches = [...RANGES.map(([name, text]) => [name, text]), ["own", "as below"]];
      this.stretchList = chooser("Range", stretches, this.stretch, (name) => this.#setStretch(name));
      parts.push(
        chooser("Colours", COLOUR_MAPS.map((name) => [name, name]), this.colourMap, (name) => {
          this.colourMap = name;
          remember({ colours: name });
          this.#paint();
        }),
        this.stretchList,
        this.fields[0],
        this.scale,
        this.fields[1],
        tick("first row below", this.isUpward, (isUpward) => {
          this.isUpward = isUpward;
          remember({ up: isUpward ? "1" : null });
          this.#paint();
          this.#point(null);
        }),
      );
    } else {
      this.fields = null;
    }
    form.replaceChildren(...parts);
    form.hidden = parts.length === 0;
  }

  #setStretch(name) {
    this.stretch = name;
    this.stretchList.querySelector("select").value = name;
    this.#paint();
    remember({ stretch: name === "own" ? null : name, range: name === "own" ? this.range.join(",") : null });
  }

  #setAxes(down, right) {
    // Both axes cannot be the same: the other one takes the place of the one that is chosen.
    const [before, after] = [[this.down, this.right], [down, right]];
    if (down === right) {
      after[down === before[0] ? 0 : 1] = before[down === before[0] ? 1 : 0];
    }
    if (after[1] < 0) {
      after[1] = before[0] >= 0 && before[0] !== after[0] ? before[0] : before[1];
    }
    [this.down, this.right] = after;
    this.at = this.at.map((index, axis) => (this.#isShown(axis) ? 0 : index));
    this.#showControls();
    this.#again();
  }
}

function describe(array) {
  return factList([
    ["Type", array.typeName],
    ["Shape", array.names.map((name, axis) => `${name} ${array.shape[axis].toLocaleString("en")}`).join(", ") || "one value"],
    ["Chunks", array.chunks.join(" × ")],
    ["Shards", array.shards?.join(" × ")],
    ["Codecs", array.codecs],
  ]);
}
