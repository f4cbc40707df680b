// Streams of bytes that are read to their end, up to a size.

// Returns all that a stream has; where that is more than `maxBytes` it throws what `refuse()` returns.
export async function readStream(stream, maxBytes, refuse) {
  const reader = stream.getReader();
  const pieces = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return join(pieces, size);
    }
    pieces.push(value);
    size += value.length;
    if (size > maxBytes) {
      await reader.cancel();
      throw refuse();
    }
  }
}

// Returns pieces, which have `size` bytes together, as one.
export function join(pieces, size) {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
