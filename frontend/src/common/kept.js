// What was made last, each once, and asked for again where it has failed.

export class Kept {
  #most;
  #made = new Map();

  // Keeps so many at most.
  constructor(most) {
    this.#most = most;
  }

  // Returns the promise that is kept under `key`, or that of `make()`.
  get(key, make) {
    const found = this.#made.get(key);
    const made = found ?? make();
    if (found === undefined) {
      made.catch(() => {
        if (this.#made.get(key) === made) {
          this.#made.delete(key);
        }
      });
    }
    this.#made.delete(key); // To the end: it was used last.
    this.#made.set(key, made);
    if (this.#made.size > this.#most) {
      this.#made.delete(this.#made.keys().next().value);
    }
    return made;
  }

  // Returns the promise that is kept under `key`, or undefined.
  peek(key) {
    return this.#made.get(key);
  }
}
