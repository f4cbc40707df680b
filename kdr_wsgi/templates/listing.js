
// Sorts and filters what is in a folder, and shows all of it; without this script the page has its names in pages.
//
// What the page is doing stands in data-state of the html element: "loading", "ready" (all of the folder is here) or
// "failed".

// Up to so many rows are all in the page, where the browser's own search finds them; of more, those in view.
const ROWS = 1000;
// How many rows there are beyond the edges of the window.
const BEYOND = 20;
// Browsers draw nothing that is much higher (Firefox: 17.9 million); beyond that, a scroll skips rows.
const MAX_PIXELS = 15_000_000;

const SVG = "http://www.w3.org/2000/svg";
const root = document.documentElement;
const table = document.querySelector("table");
const body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];
const filter = document.getElementById("filter");
const pictures = document.getElementById("pictures");
const status = document.getElementById("status");
const nothing = document.getElementById("nothing");
const pages = document.getElementById("pages");
const pictureTypes = new Set(table.dataset.pictures.split(" "));
const iconBytes = Number(table.dataset.iconBytes);
const pictureBytes = Number(table.dataset.pictureBytes);
const format = new Intl.NumberFormat("en");

// The entries of the folder, in columns, since there may be a million; -1 and NaN: not known.
const names = [];
const types = [];
const sizes = [];
const times = [];
const previews = [];
// URLs that do not follow from the name; null: it is not served.
const urls = new Map();
// The rows that came with the page.
const rows = [];

let order = new Uint32Array();
let shown = order;
let sorting = { column: 0, sign: 1 };
let placed = new Map();
let above;
let below;

function say(state, sentence) {
  root.dataset.state = state;
  status.textContent = sentence;
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// --- reading ---------------------------------------------------------------------------------------------------------

function urlOf(index) {
  const known = urls.get(index);
  return known === undefined ? `./${encodeURIComponent(names[index])}${types[index] === "folder" ? "/" : ""}` : known;
}

function takeRows() {
  for (const row of body.rows) {
    const link = row.querySelector("a.text");
    const index = names.length;
    names.push(row.querySelector(".text").title || row.querySelector(".text").textContent);
    types.push(row.cells[1].textContent);
    sizes.push(Number(row.dataset.size));
    times.push(Date.parse(row.querySelector("time")?.dateTime));
    urls.set(index, link === null ? null : link.getAttribute("href"));
    rows.push(row);
  }
}

function takeEntries(lines) {
  // Each line has one entry, and a comma behind it but for the last.
  const entries = JSON.parse(`[${lines.join("\n").replace(/,$/, "")}]`);
  for (const { name, href, type, size, modified, preview } of entries) {
    const index = names.length;
    names.push(name);
    types.push(type ?? "not served");
    sizes.push(size ?? -1);
    times.push(Date.parse(modified));
    if (preview !== undefined) {
      previews[index] = preview;
    }
    // U+FFFD stands for bytes that are no text.
    if (href === null || name.includes("\ufffd")) {
      urls.set(index, href);
    }
  }
}

async function readFolder() {
  const answer = await fetch("./?format=json");
  if (!answer.ok) {
    throw new Error(`status ${answer.status}`);
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const total = table.dataset.total ? ` of ${format.format(table.dataset.total)}` : "";
  let told = 0;
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    if (lines.at(-1) === "]}") {
      lines.pop();
      rest = null;
    }
    // The first line is the head of the document.
    takeEntries(lines.filter((line) => line.startsWith('{"name"')));
    if (performance.now() > told + 200) {
      told = performance.now();
      say("loading", `Reading: ${format.format(names.length)}${total} entries …`);
      // Else nothing is drawn while all comes at once.
      await new Promise((resolve) => { setTimeout(resolve); });
    }
    if (rest === null) {
      return;
    }
  }
  throw new Error("it broke off");
}

// --- rows ------------------------------------------------------------------------------------------------------------

// As kdr_wsgi.listing writes them.
function formatSize(bytes) {
  if (bytes < 1000) {
    return `${bytes} B`;
  }
  let size = bytes;
  for (const unit of ["kB", "MB", "GB", "TB", "PB", "EB"]) {
    size /= 1000;
    if (size < 999.5 || unit === "EB") {
      return `${size.toFixed(size < 9.95 ? 1 : 0)} ${unit}`;
    }
  }
}

// Returns one of the drawings of the page.
function draw(name) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("aria-hidden", "true");
  drawing.appendChild(document.createElementNS(SVG, "use")).setAttribute("href", name);
  return drawing;
}

function makeIcon(index) {
  const type = types[index];
  const isPicture = pictureTypes.has(type) && sizes[index] >= 0 && sizes[index] <= pictureBytes;
  if (isPicture && (sizes[index] <= iconBytes || pictures.ariaPressed === "true")) {
    // "lazy" comes first, since the address starts the request.
    return make("img", { alt: "", loading: "lazy", decoding: "async", src: urlOf(index) });
  }
  return draw({ folder: "#folder", "not served": "#none" }[type] ?? (isPicture ? "#image" : "#file"));
}

function makeTime(milliseconds) {
  const text = new Date(milliseconds).toISOString().replace(/\.\d+Z/, "Z");
  return make("time", { dateTime: text }, `${text.slice(0, 10)} `, make("span", {}, text.slice(11, 19)));
}

function makeRow(index) {
  const [name, url] = [names[index], urlOf(index)];
  const parts = [make("span", { className: "icon" }, makeIcon(index))];
  if (url === null) {
    parts.push(make("span", { className: "text" }, name));
  } else {
    const text = types[index] === "folder" ? `${name}/` : name;
    parts.push(make("a", { className: "text", href: url, title: name }, text));
  }
  if (previews[index] !== undefined) {
    const query = encodeURIComponent(table.dataset.shown + url.slice(2));
    const href = `${table.dataset.previews}${previews[index]}?url=${query}`;
    const label = make("span", {}, "Preview");
    parts.push(make("a", { className: "preview", href, ariaLabel: `Preview of ${name}` }, label, draw("#eye")));
  }
  const head = make("th", { scope: "row" }, make("div", { className: "name" }, ...parts));
  const size = make("td", { className: "size" }, sizes[index] < 0 ? "" : formatSize(sizes[index]));
  if (sizes[index] >= 0) {
    size.title = `${format.format(sizes[index])} bytes`;
  }
  const time = make("td", { className: "time" }, ...(Number.isNaN(times[index]) ? [] : [makeTime(times[index])]));
  return make("tr", {}, head, make("td", { className: "type" }, types[index]), size, time);
}

function rowOf(index) {
  return rows[index] ?? makeRow(index);
}

// Puts all that is shown into the table or, where that is too much, what is in view, between two rows of empty space.
function place() {
  nothing.hidden = shown.length > 0;
  nothing.textContent = names.length > 0 ? "No name has that in it." : "Nothing is here.";
  placed = new Map();
  if (shown.length <= ROWS) {
    table.removeAttribute("aria-rowcount");
    body.replaceChildren(...[...shown].map(rowOf));
    return;
  }
  table.setAttribute("aria-rowcount", shown.length + 1);
  [above, below] = [0, 1].map(() => make("tr", { className: "space", ariaHidden: "true" }, make("td", { colSpan: 4 })));
  body.replaceChildren(above, below);
  update();
}

function update() {
  if (shown.length <= ROWS) {
    return;
  }
  const height = heightOfRow();
  const { clientHeight } = root;
  const natural = shown.length * height;
  const whole = Math.min(natural, MAX_PIXELS);
  const scale = (natural - clientHeight) / (whole - clientHeight);
  const top = Math.min(Math.max(0, -body.getBoundingClientRect().top), whole - clientHeight);
  const first = (top * scale) / height;
  const start = Math.max(0, Math.floor(first) - BEYOND);
  const stop = Math.min(shown.length, Math.ceil(first + clientHeight / height) + BEYOND);
  for (const [at, row] of placed) {
    if (at < start || at >= stop) {
      row.remove();
      placed.delete(at);
    }
  }
  // What stays is not moved, so that it keeps the focus.
  let next = below;
  for (let at = stop - 1; at >= start; at -= 1) {
    let row = placed.get(at);
    if (row === undefined) {
      row = rowOf(shown[at]);
      row.ariaRowIndex = at + 2;
      placed.set(at, row);
      body.insertBefore(row, next);
    }
    next = row;
  }
  const space = Math.max(0, top - (first - start) * height);
  above.cells[0].style.height = `${space}px`;
  below.cells[0].style.height = `${Math.max(0, whole - space - (stop - start) * height)}px`;
}

function heightOfRow() {
  const row = placed.values().next().value ?? body.insertBefore(rowOf(shown[0]), below);
  const { height } = row.getBoundingClientRect();
  if (placed.size === 0) {
    row.remove();
  }
  return height;
}

// --- sorting and filtering -------------------------------------------------------------------------------------------

// Returns the place of each entry in the order in which people look for names: folders first, tile_2 before tile_10.
function rankNames() {
  const keys = names.map((name, index) => {
    const key = name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(20, "0"));
    return (types[index] === "folder" ? "0" : "1") + key;
  });
  const sorted = Uint32Array.from(keys.keys()).sort((a, b) => compare(keys[a], keys[b]) || compare(names[a], names[b]));
  const ranks = new Uint32Array(sorted.length);
  sorted.forEach((index, rank) => { ranks[index] = rank; });
  return ranks;
}

function compare(a, b) {
  return a < b ? -1 : Number(a > b);
}

let ranks = new Uint32Array();

// Returns the number by which each entry comes; what is not known comes last, whatever the order.
function findKeys(column, sign) {
  if (column === 1) {
    const known = [...new Set(types)].sort();
    const places = new Map(known.map((type, place) => [type, sign * place]));
    return Float64Array.from(types, (type) => places.get(type));
  }
  const values = column === 2 ? sizes : times;
  return Float64Array.from(values, (value) => (column === 2 && value < 0 ? NaN : sign * value)).map(
    (key) => (Number.isNaN(key) ? Infinity : key),
  );
}

function sort() {
  if (ranks.length !== names.length) {
    ranks = rankNames();
  }
  const { column, sign } = sorting;
  order = new Uint32Array(names.length);
  if (column === 0) {
    ranks.forEach((rank, index) => { order[sign > 0 ? rank : names.length - 1 - rank] = index; });
  } else {
    const keys = findKeys(column, sign);
    // The difference of two that are not known is no number.
    order = order.map((_, index) => index).sort((a, b) => keys[a] - keys[b] || ranks[a] - ranks[b]);
  }
  heads.forEach((head, index) => {
    if (index === column) {
      head.ariaSort = sign > 0 ? "ascending" : "descending";
    } else {
      head.removeAttribute("aria-sort");
    }
  });
  choose();
}

function choose() {
  const wanted = filter.value.trim();
  const pattern = new RegExp(wanted.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"), "iu");
  shown = wanted === "" ? order : order.filter((index) => pattern.test(names[index]));
  const all = `${format.format(names.length)} ${names.length === 1 ? "entry" : "entries"}`;
  say("ready", wanted === "" ? all : `${format.format(shown.length)} of ${all}`);
  place();
}

function sortBy(column) {
  // Of sizes and times people want the largest first.
  const first = column > 1 ? -1 : 1;
  sorting = { column, sign: sorting.column === column ? -sorting.sign : first };
  sort();
}

// --- the page --------------------------------------------------------------------------------------------------------

function togglePictures() {
  pictures.ariaPressed = String(pictures.ariaPressed !== "true");
  table.classList.toggle("pictures", pictures.ariaPressed === "true");
  rows.forEach((row, index) => {
    if (row.dataset.picture === "large") {
      row.querySelector(".icon").replaceChildren(makeIcon(index));
    }
  });
  place();
}

// The arrow keys go from row to row, as the tab key does from link to link.
function moveFocus(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const row = document.activeElement.closest("tbody tr");
  if (step === undefined || event.altKey || event.ctrlKey || event.metaKey || row === null) {
    return;
  }
  let next = row[step];
  while (next !== null && next.querySelector("a.text") === null) {
    next = next[step];
  }
  if (next !== null) {
    event.preventDefault();
    next.querySelector("a.text").focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
}

function start() {
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" }, ...head.childNodes);
    button.addEventListener("click", () => sortBy(column));
    head.append(button);
  });
  filter.addEventListener("input", choose);
  pictures.addEventListener("click", togglePictures);
  body.addEventListener("keydown", moveFocus);
  filter.hidden = false;
  pictures.hidden = !types.some((type) => pictureTypes.has(type));
  pages?.remove();
  sort();
  let isWaiting = false;
  const soon = () => {
    if (!isWaiting) {
      isWaiting = true;
      requestAnimationFrame(() => { isWaiting = false; update(); });
    }
  };
  addEventListener("scroll", soon, { passive: true });
  addEventListener("resize", soon);
}

if (table.dataset.whole !== undefined) {
  takeRows();
  start();
} else {
  try {
    await readFolder();
    start();
  } catch (error) {
    say("failed", `${status.textContent} The whole list could not be read (${error.message}); reload to try again.`);
  }
}
