// The pixels of an image as FITS stores it: rows one after the other, so that any span of a row is found at once.

import { axesOf } from "./hdus.js";
import { makeDecoder } from "./pixels.js";

export class PlainImage {
  #file;
  #start;
  #decode;
  #size;

  // Rows cost what they have; parts of rows can be read alone.
  rowsTogether = 1;
  canSkip = true;

  constructor(file, { header, dataStart }) {
    this.#file = file;
    this.#start = dataStart;
    this.axes = axesOf(header);
    this.width = this.axes[0];
    this.height = this.axes[1] ?? 1;
    const bits = header.number("BITPIX");
    this.#size = Math.abs(bits) / 8;
    this.#decode = makeDecoder(header, bits);
  }

  measureRows(x0, x1) {
    return (x1 - x0) * this.#size;
  }

  // Fills a layer with one plane's values, `plane` being where it lies on the third axis and further ones; calls
  // `progress` as parts come.
  async fill(layer, plane, { signal, progress = () => {} } = {}) {
    const first = locatePlane(this.axes, plane) * this.height;
    const spans = [];
    const places = [];
    const { segments } = layer;
    for (let index = 0; index < layer.rows; index += 1) {
      for (const [x, count] of segments) {
        const start = this.#start + ((first + layer.rowOf(index)) * this.width + x) * this.#size;
        const length = Math.min(count * this.#size, Math.floor((this.#file.size - start) / this.#size) * this.#size);
        if (length > 0) { // Of a file that is cut there is what there is.
          spans.push([start, length]);
          places.push([index, x]);
        }
      }
    }
    const take = (number, bytes) => {
      layer.add(...places[number], this.#decode(bytes));
      progress();
    };
    await this.#file.readParts(spans, take, { signal });
  }
}

// Returns the number of a plane, counted over all axes beyond the second.
export function locatePlane(axes, plane) {
  let number = 0;
  for (let axis = axes.length - 1; axis >= 2; axis -= 1) {
    number = number * axes[axis] + (plane[axis - 2] ?? 0);
  }
  return number;
}
