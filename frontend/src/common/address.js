// What somebody has chosen, such as a slice or a colour map, stands in the page's address: a link shows the same.

// Browsers refuse changes of the address that come too often: more than 100 in 30 seconds, say.
const WAIT_MILLISECONDS = 350;

// What the address says, or will say in a moment.
const kept = new URLSearchParams(location.search);
let timer = 0;

// Returns what is kept under `name`, or null.
export function recall(name) {
  return kept.get(name);
}

// Returns a number that is kept, within bounds, or `otherwise`.
export function recallNumber(name, otherwise, { least = -Infinity, most = Infinity } = {}) {
  const number = toNumber(kept.get(name) ?? "");
  return Number.isFinite(number) ? Math.min(Math.max(number, least), most) : otherwise;
}

// Returns the numbers that are kept, or null where they are not `count`.
export function recallNumbers(name, count) {
  const numbers = (kept.get(name) ?? "").split(",").map(toNumber);
  return numbers.length === count && numbers.every(Number.isFinite) ? numbers : null;
}

// Keeps values; null or an empty text takes one out.
export function remember(values) {
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === "") {
      kept.delete(name);
    } else {
      kept.set(name, String(value));
    }
  }
  clearTimeout(timer);
  timer = setTimeout(write, WAIT_MILLISECONDS);
}

// Takes out all but these.
export function forgetAllBut(names) {
  remember(Object.fromEntries([...kept.keys()].filter((name) => !names.includes(name)).map((name) => [name, null])));
}

function toNumber(text) {
  return text.trim() === "" ? NaN : Number(text);
}

function write() {
  const address = new URL(location.href);
  if (address.searchParams.toString() === kept.toString()) {
    return;
  }
  address.search = kept.toString();
  try {
    history.replaceState(null, "", address);
  } catch (error) {
    if (error.name !== "SecurityError") {
      throw error; // Too many changes all the same: the next one writes them all.
    }
  }
}
