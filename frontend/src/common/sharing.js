// What somebody has chosen stands in the page's address, so that a link shows the same.

const WAIT_MILLISECONDS = 250; // Browsers stop pages that change their address more often than about 6 times a second.

const given = new URLSearchParams(location.search);
const chosen = new Map();
let timer = 0;

export function recall(name) {
  return given.get(name);
}

// Returns a number of the address, within bounds, or `otherwise`.
export function recallNumber(name, otherwise, { least = -Infinity, most = Infinity } = {}) {
  const text = given.get(name);
  const number = Number(text);
  return text === null || text.trim() === "" || !Number.isFinite(number) ? otherwise : Math.min(Math.max(number, least), most);
}

// Keeps a value; null or an empty text takes it out of the address.
export function remember(values) {
  for (const [name, value] of Object.entries(values)) {
    chosen.set(name, value);
  }
  clearTimeout(timer);
  timer = setTimeout(write, WAIT_MILLISECONDS);
}

function write() {
  const address = new URL(location.href);
  for (const [name, value] of chosen) {
    if (value === null || value === "") {
      address.searchParams.delete(name);
    } else {
      address.searchParams.set(name, String(value));
    }
  }
  if (address.href !== location.href) {
    history.replaceState(null, "", address);
  }
}
