// How values become colours.

export const STRETCHES = {
  linear: (value) => value,
  asinh: (value) => Math.asinh(10 * value) / Math.asinh(10),
  sqrt: (value) => Math.sqrt(value),
  log: (value) => Math.log1p(1000 * value) / Math.log(1001),
};

// Returns the colours of a layer's cells, the topmost row first; cells without a value are left clear.
export function paint(layer, { black, white, stretch, colours }) {
  const { columns, rows, sums, counts } = layer;
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  const curve = STRETCHES[stretch];
  const range = white - black;
  for (let row = 0; row < rows; row += 1) {
    const target = (rows - 1 - row) * columns;
    for (let column = 0; column < columns; column += 1) {
      const cell = row * columns + column;
      if (counts[cell] > 0) {
        const share = range > 0 ? (sums[cell] / counts[cell] - black) / range : Number(sums[cell] / counts[cell] > black);
        pixels[target + column] = colours[Math.round(255 * curve(Math.min(Math.max(share, 0), 1)))];
      }
    }
  }
  return image;
}
