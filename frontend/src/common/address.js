// What a page shows of its file, such as a slice or a colour map, kept in the page's address: a link shows the same.

// Returns what the address says of `name`, or null.
export function recall(name) {
  return new URLSearchParams(location.search).get(name);
}

// Returns the finite numbers that the address has under `name`, or null where they are not `count`.
export function recallNumbers(name, count) {
  const numbers = (recall(name) ?? "").split(",").map((text) => (text.trim() === "" ? NaN : Number(text)));
  return numbers.length === count && numbers.every(Number.isFinite) ? numbers : null;
}

// Keeps values in the address; null takes one out.
export function remember(values) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(values)) {
    if (value === null) {
      query.delete(name);
    } else {
      query.set(name, String(value));
    }
  }
  try {
    history.replaceState(null, "", `?${query}`);
  } catch (error) {
    if (error.name !== "SecurityError") {
      throw error; // A browser allows so many changes in a while; the next one counts again.
    }
  }
}
