// Pieces that are read a few at a time, kept while there is room, and given up where nobody waits any more.

const AT_A_TIME = 6;

export class Pieces {
  #kept = new Map();
  #keptBytes = 0;
  #maxBytes;
  #waiting = [];
  #running = 0;

  constructor(maxBytes) {
    this.#maxBytes = maxBytes;
  }

  // Returns what `read(signal)` gives for `key`; `sizeOf` tells how much memory that takes.
  get(key, read, sizeOf, signal) {
    signal?.throwIfAborted();
    let piece = this.#kept.get(key);
    if (piece === undefined) {
      piece = { key, read, sizeOf, bytes: 0, waiters: 0, isDone: false, controller: new AbortController() };
      piece.promise = new Promise((resolve, reject) => Object.assign(piece, { resolve, reject }));
      this.#waiting.push(piece);
      queueMicrotask(() => this.#next());
    }
    this.#kept.delete(key); // To the end: it was used last.
    this.#kept.set(key, piece);
    piece.waiters += 1;
    signal?.addEventListener("abort", () => this.#leave(piece), { once: true });
    return piece.promise;
  }

  #leave(piece) {
    piece.waiters -= 1;
    if (piece.waiters === 0 && !piece.isDone) {
      this.#drop(piece);
      piece.promise.catch(() => {}); // Whoever waited has gone.
      piece.controller.abort();
      piece.reject(piece.controller.signal.reason);
    }
  }

  #next() {
    while (this.#running < AT_A_TIME && this.#waiting.length > 0) {
      const piece = this.#waiting.shift();
      if (!piece.controller.signal.aborted) {
        this.#running += 1;
        this.#run(piece);
      }
    }
  }

  async #run(piece) {
    try {
      const value = await piece.read(piece.controller.signal);
      if (!piece.controller.signal.aborted) {
        piece.bytes = piece.sizeOf(value);
        this.#keptBytes += piece.bytes;
        this.#shrink(piece);
      }
      piece.resolve(value);
    } catch (error) {
      this.#drop(piece); // To be tried again.
      piece.reject(error);
    } finally {
      piece.isDone = true;
      this.#running -= 1;
      this.#next();
    }
  }

  #drop(piece) {
    if (this.#kept.get(piece.key) === piece) {
      this.#kept.delete(piece.key);
    }
  }

  #shrink(latest) {
    for (const [key, piece] of this.#kept) {
      if (this.#keptBytes <= this.#maxBytes) {
        return;
      }
      if (piece.bytes > 0 && piece !== latest) {
        this.#kept.delete(key);
        this.#keptBytes -= piece.bytes;
      }
    }
  }
}
