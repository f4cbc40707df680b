// What was read of one plane of an image: a region, each cell of which stands for a block of pixels.
//
// Of an image that is too large the rows are chosen that are shown, and read as far as they are seen. Where rows are so
// long that only few could be read, a few pixels of each cell are.

// What reading one view may cost, in bytes.
export const BUDGET_BYTES = 6_500_000;

// With fewer rows than this an image is not recognised.
const FEWEST_ROWS = 120;
const SPARSE_ROWS = 96;
const SPARSE_PIXELS = 16;

// About what one more range costs.
const RANGE_BYTES = 170;

export class Layer {
  constructor(region, stepX, stepY, { samples = 0, cost = 0 } = {}) {
    [this.x0, this.y0, this.x1, this.y1] = region;
    [this.stepX, this.stepY, this.samples, this.cost] = [stepX, stepY, samples, cost];
    this.columns = Math.ceil((this.x1 - this.x0) / stepX);
    this.rows = Math.ceil((this.y1 - this.y0) / stepY);
    this.sums = new Float64Array(this.columns * this.rows);
    this.counts = new Uint32Array(this.columns * this.rows);
    this.isWhole = false;
  }

  // The image's row that stands for a row of cells.
  rowOf(index) {
    const start = this.y0 + index * this.stepY;
    return start + Math.floor((Math.min(this.stepY, this.y1 - start) - 1) / 2);
  }

  // The spans of columns that are read of each row: [x, count] each.
  get segments() {
    if (this.samples === 0) {
      return [[this.x0, this.x1 - this.x0]];
    }
    return Array.from({ length: this.columns }, (_, index) => {
      const start = this.x0 + index * this.stepX;
      const width = Math.min(this.stepX, this.x1 - start);
      const count = Math.min(this.samples, width);
      return [start + Math.floor((width - count) / 2), count];
    });
  }

  // Adds values of the image's row that stands for the row of cells `index`, from column `x` on.
  add(index, x, values) {
    const offset = index * this.columns;
    const { x0, stepX, sums, counts } = this;
    for (let position = 0; position < values.length; position += 1) {
      const value = values[position];
      if (Number.isFinite(value)) {
        const cell = offset + Math.floor((x + position - x0) / stepX);
        sums[cell] += value;
        counts[cell] += 1;
      }
    }
  }

  at(x, y) {
    const cell = Math.floor((y - this.y0) / this.stepY) * this.columns + Math.floor((x - this.x0) / this.stepX);
    return this.counts[cell] > 0 ? this.sums[cell] / this.counts[cell] : NaN;
  }

  contains([x0, y0, x1, y1]) {
    return this.x0 <= x0 && this.y0 <= y0 && this.x1 >= x1 && this.y1 >= y1;
  }

  get isExact() {
    return this.stepX === 1 && this.stepY === 1;
  }

  // The values of its cells, sorted, without those that have none.
  sorted() {
    const values = [];
    for (let cell = 0; cell < this.sums.length; cell += 1) {
      if (this.counts[cell] > 0) {
        values.push(this.sums[cell] / this.counts[cell]);
      }
    }
    return Float64Array.from(values).sort();
  }
}

// Returns a layer to be read of `image`, with a cell for each block of pixels or, where that costs too much, of more.
export function planLayer(image, region, [wantedX, wantedY], budget = BUDGET_BYTES) {
  const [x0, y0, x1, y1] = region;
  const height = y1 - y0;
  const wanted = Math.ceil(height / wantedY);
  const rowBytes = image.measureRows(x0, x1) + RANGE_BYTES;
  const together = Math.max(1, Math.floor(image.rowsTogether / wantedY)); // Rows that cost no more than one.
  const affordable = Math.floor(budget / rowBytes) * together;
  if (affordable >= wanted) {
    return new Layer(region, wantedX, wantedY, { cost: Math.ceil(wanted / together) * rowBytes });
  }
  if (affordable >= Math.min(FEWEST_ROWS, wanted) || !image.canSkip) {
    const stepY = Math.max(wantedY, Math.ceil(height / Math.max(1, Math.floor(budget / rowBytes))));
    return new Layer(region, wantedX, stepY, { cost: Math.ceil(height / stepY) * rowBytes });
  }
  const rows = Math.min(wanted, SPARSE_ROWS);
  const cellBytes = image.measureRows(0, SPARSE_PIXELS) + RANGE_BYTES;
  const columns = Math.max(1, Math.min(Math.ceil((x1 - x0) / wantedX), Math.floor(budget / (rows * cellBytes))));
  const [stepX, stepY] = [Math.ceil((x1 - x0) / columns), Math.ceil(height / rows)];
  return new Layer(region, stepX, stepY, { samples: Math.min(SPARSE_PIXELS, stepX), cost: rows * columns * cellBytes });
}
