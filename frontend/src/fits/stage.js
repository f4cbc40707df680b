// A canvas on which an image is moved and enlarged: by wheel, drag, two fingers, keys and buttons.
//
// Positions are in pixels of the image, from 0 at its lower left corner; the scale is in CSS pixels a pixel of the image.

const LARGEST_SCALE = 64;
const KEY_STEP = 0.15;

// What is longer than so many times its other side is squeezed to the second number of times.
const [LONGEST, SQUEEZED] = [8, 2];

export class Stage {
  #canvas;
  #context;
  #size = [1, 1];
  #image = [1, 1];
  #view = { x: 0.5, y: 0.5, scale: 1 };
  #isFitted = true;
  #pointers = new Map();
  #frame = 0;
  #listeners;

  layers = [];
  cursor = null;

  // How many times higher than wide a pixel of the image is drawn.
  aspect = 1;

  // `listeners` are moved(), when another part is seen, and pointed(x, y, isByKey), with null for nothing.
  constructor(canvas, listeners) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#listeners = listeners;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 30 : event.deltaY;
      this.zoom(Math.exp(Math.max(-300, Math.min(300, pixels)) * -0.002), this.#locate(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    });
    canvas.addEventListener("pointermove", (event) => this.#movePointer(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.#pointers.delete(event.pointerId));
    }
    canvas.addEventListener("pointerleave", () => this.#listeners.pointed(null));
    canvas.addEventListener("dblclick", (event) => this.zoom(2, this.#locate(event)));
    canvas.addEventListener("keydown", (event) => this.#press(event));
    this.#resize();
  }

  open(width, height, view) {
    this.#image = [width, height];
    this.#isFitted = view === null;
    const ratio = width / height;
    this.aspect = ratio > LONGEST ? ratio / SQUEEZED : ratio < 1 / LONGEST ? ratio * SQUEEZED : 1;
    this.layers = [];
    this.cursor = null;
    if (view === null) {
      this.fit();
    } else {
      this.#look(view);
    }
  }

  get view() {
    return { ...this.#view, isFitted: this.#isFitted };
  }

  // The part of the image that is seen: [x0, y0, x1, y1].
  get region() {
    const [width, height] = this.#size;
    const { x, y, scale } = this.#view;
    const clampTo = (value, length) => Math.min(Math.max(value, 0), length);
    const x0 = clampTo(Math.floor(x - width / 2 / scale), this.#image[0] - 1);
    const y0 = clampTo(Math.floor(y - height / 2 / scale / this.aspect), this.#image[1] - 1);
    return [
      x0,
      y0,
      Math.max(x0 + 1, clampTo(Math.ceil(x + width / 2 / scale), this.#image[0])),
      Math.max(y0 + 1, clampTo(Math.ceil(y + height / 2 / scale / this.aspect), this.#image[1])),
    ];
  }

  fit() {
    this.#isFitted = true;
    this.#look({ x: this.#image[0] / 2, y: this.#image[1] / 2, scale: this.#fitted() });
  }

  zoom(factor, [x, y] = [this.#view.x, this.#view.y]) {
    this.zoomTo(this.#view.scale * factor, [x, y]);
  }

  zoomTo(wanted, [x, y] = [this.#view.x, this.#view.y]) {
    const fitted = this.#fitted();
    const scale = Math.min(Math.max(wanted, fitted / 2), Math.max(LARGEST_SCALE, 4 * fitted));
    const share = this.#view.scale / scale;
    this.#isFitted = false;
    this.#look({ x: x + (this.#view.x - x) * share, y: y + (this.#view.y - y) * share, scale });
  }

  // Draws soon; several calls draw once.
  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.drawNow();
    });
  }

  drawNow() {
    const context = this.#context;
    const ratio = devicePixelRatio;
    const [width, height] = this.#size;
    const { x, y, scale } = this.#view;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.save();
    const toLeft = (column) => (column - x) * scale + width / 2;
    const toTop = (row) => height / 2 - (row - y) * scale * this.aspect;
    context.beginPath();
    context.rect(toLeft(0), toTop(this.#image[1]), this.#image[0] * scale, this.#image[1] * scale * this.aspect);
    context.clip();
    for (const { bitmap, layer } of this.layers) {
      context.imageSmoothingEnabled = !layer.isExact || scale < 1;
      context.imageSmoothingQuality = "medium";
      const top = layer.y0 + layer.rows * layer.stepY;
      context.drawImage(bitmap, toLeft(layer.x0), toTop(top), layer.columns * layer.stepX * scale, layer.rows * layer.stepY * scale * this.aspect);
    }
    context.restore();
    if (this.cursor !== null) {
      const [left, up] = [toLeft(this.cursor[0] + 0.5), toTop(this.cursor[1] + 0.5)];
      for (const [colour, thickness] of [["#000", 3], ["#fff", 1]]) {
        context.strokeStyle = colour;
        context.lineWidth = thickness;
        context.beginPath();
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          context.moveTo(left + 5 * dx, up + 5 * dy);
          context.lineTo(left + 14 * dx, up + 14 * dy);
        }
        context.stroke();
      }
    }
  }

  #fitted() {
    return Math.max(Math.min(this.#size[0] / this.#image[0], this.#size[1] / this.#image[1] / this.aspect), 1e-9);
  }

  #look({ x, y, scale }) {
    const within = (value, length) => Math.min(Math.max(value, 0), length);
    this.#view = { x: within(x, this.#image[0]), y: within(y, this.#image[1]), scale };
    this.draw();
    this.#listeners.moved();
  }

  #resize() {
    this.#size = [Math.max(1, this.#canvas.clientWidth), Math.max(1, this.#canvas.clientHeight)];
    this.#canvas.width = Math.round(this.#size[0] * devicePixelRatio);
    this.#canvas.height = Math.round(this.#size[1] * devicePixelRatio);
    if (this.#isFitted) {
      this.fit();
    } else {
      this.#look(this.#view);
    }
    this.drawNow();
  }

  #locate({ offsetX, offsetY }) {
    const { x, y, scale } = this.#view;
    return [x + (offsetX - this.#size[0] / 2) / scale, y - (offsetY - this.#size[1] / 2) / scale / this.aspect];
  }

  #movePointer(event) {
    const before = this.#pointers.get(event.pointerId);
    const now = [event.offsetX, event.offsetY];
    if (before === undefined) {
      const [x, y] = this.#locate(event).map(Math.floor);
      const isInside = x >= 0 && y >= 0 && x < this.#image[0] && y < this.#image[1];
      this.#listeners.pointed(isInside ? [x, y] : null, false);
      return;
    }
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.#pointers.set(event.pointerId, now);
    if (other === undefined) {
      this.#shift(now[0] - before[0], now[1] - before[1]);
    } else {
      const distance = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]);
      const middle = { offsetX: (now[0] + other[0]) / 2, offsetY: (now[1] + other[1]) / 2 };
      this.zoom(distance(now) / Math.max(1, distance(before)), this.#locate(middle));
      this.#shift((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    }
  }

  #shift(right, down) {
    this.#isFitted = false;
    const { x, y, scale } = this.#view;
    this.#look({ x: x - right / scale, y: y + down / scale / this.aspect, scale });
  }

  #press(event) {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.ctrlKey || event.altKey || event.metaKey) {
      return;
    }
    if (direction !== undefined && event.shiftKey) {
      this.#shift(-direction[0] * KEY_STEP * this.#size[0], direction[1] * KEY_STEP * this.#size[1]);
    } else if (direction !== undefined) {
      this.#moveCursor(direction);
    } else if (event.key === "+" || event.key === "=") {
      this.zoom(1.5, this.cursor ?? undefined);
    } else if (event.key === "-") {
      this.zoom(1 / 1.5, this.cursor ?? undefined);
    } else if (event.key === "0") {
      this.fit();
    } else if (event.key === "1") {
      this.zoomTo(1);
    } else {
      return;
    }
    event.preventDefault();
  }

  // Moves the cross by a pixel of the image or, where these are smaller, by some of the screen's.
  #moveCursor([right, up]) {
    const step = Math.max(1, Math.round(4 / this.#view.scale));
    const [x0, y0, x1, y1] = this.region;
    const [x, y] = this.cursor ?? [Math.floor(this.#view.x) - right * step, Math.floor(this.#view.y) - up * step];
    const within = (value, length) => Math.min(Math.max(value, 0), length - 1);
    this.cursor = [within(x + right * step, this.#image[0]), within(y + up * step, this.#image[1])];
    if (this.cursor[0] < x0 || this.cursor[0] >= x1 || this.cursor[1] < y0 || this.cursor[1] >= y1) {
      this.#isFitted = false;
      this.#look({ ...this.#view, x: this.cursor[0] + 0.5, y: this.cursor[1] + 0.5 });
    }
    this.draw();
    this.#listeners.pointed(this.cursor, true);
  }
}
