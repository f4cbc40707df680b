// Shows FITS: images and cubes, compressed ones too, tables, and headers.

import { recallNumber, remember } from "./common/address.js";
import { Columns, Grid, Pager } from "./common/grid.js";
import { MemoryFile } from "./common/memory.js";
import { element, fail, formatBytes, run, say } from "./common/page.js";
import { RangeFile } from "./common/ranges.js";
import { unpackStream } from "./common/unpack.js";
import { CompressedImage } from "./fits/compressed.js";
import { walk } from "./fits/hdus.js";
import { PlainImage } from "./fits/image.js";
import { ImagePanel } from "./fits/panel.js";
import { columnsOf, textColumnsOf } from "./fits/tables.js";

const MAX_PARTS = 500;
const PAGE_BYTES = 4_000_000;
const SHOWN_CARDS = 1000;
const GZIP_BYTES = 64 * 2 ** 20;
const UNCOMPRESSED_BYTES = 256 * 2 ** 20;

const view = document.getElementById("view");
const controls = document.getElementById("controls");
const facts = document.getElementById("facts");
const stage = element("div", { className: "stage" });
const tables = element("div", { className: "tables", hidden: true });
const cards = element("details", { className: "cards" });
const chooser = element("select");
const parts = [];

let file;
let panel;
let grid;
let pager;
let columns;
let table = null;
let turning = new AbortController();

run(async (source) => {
  file = await open(source);
  view.append(stage, tables, cards);
  panel = new ImagePanel(stage);
  grid = new Grid(tables, "Rows of the table");
  const tableControls = element("span", { className: "table-controls", hidden: true });
  controls.append(element("label", { hidden: true }, "Part", chooser), ...panel.controls, tableControls);
  pager = new Pager(tableControls, (first) => attempt(() => turn(first)));
  columns = new Columns(tableControls, () => attempt(() => turn(0)));
  controls.hidden = false;
  controls.addEventListener("submit", (event) => event.preventDefault());
  chooser.addEventListener("change", () => {
    remember({ hdu: chooser.value, plane: null, row: null });
    attempt(() => show(parts[Number(chooser.value)]));
  });
  const walking = walk(file);
  const part = await find(walking);
  try {
    return await show(part);
  } finally {
    listRest(walking); // Where one part cannot be shown another may.
  }
});

async function open(source) {
  const ranges = await RangeFile.open(source);
  facts.textContent = formatBytes(ranges.size);
  const [first, second] = await ranges.read(0, 2);
  if (first !== 0x1f || second !== 0x8b) {
    return ranges;
  }
  if (ranges.size > GZIP_BYTES) {
    throw new Error(`A file that gzip has compressed must be read whole; this one, with ${formatBytes(ranges.size)}, is too large.`);
  }
  return new MemoryFile(await unpackStream(await ranges.read(0, ranges.size), "gzip", UNCOMPRESSED_BYTES));
}

// Walks to the part that the address names, else to the first image, else through all to the first that has something.
async function find(walking) {
  const wanted = recallNumber("hdu", -1, { least: -1 });
  for (;;) {
    const { value: part, done } = await walking.next();
    if (done || parts.length >= MAX_PARTS) {
      break;
    }
    list(part);
    if (wanted < 0 ? part.kind === "image" || part.kind === "compressed" : part.index === wanted) {
      return part;
    }
  }
  if (wanted >= 0) {
    throw new Error(`The file has no part ${wanted}; its last is ${parts.length - 1}.`);
  }
  return parts.find(({ kind }) => kind !== "empty") ?? parts[0];
}

async function listRest(walking) {
  try {
    for await (const part of walking) {
      if (parts.length >= MAX_PARTS) {
        facts.textContent += ` · only the first ${MAX_PARTS} parts are listed`;
        return;
      }
      list(part);
    }
  } catch (error) {
    facts.textContent += ` · what comes after part ${parts.length - 1} cannot be read: ${error.message}`;
  }
}

function list(part) {
  parts.push(part);
  const kinds = { image: "image", compressed: "compressed image", table: "table", "text-table": "table of text", empty: "header only", other: "other" };
  const label = [`${part.index}`, part.name, kinds[part.kind]].filter(Boolean).join(" · ");
  chooser.append(element("option", { value: part.index }, label.slice(0, 100)));
  chooser.parentElement.hidden = parts.length < 2;
}

async function show(part) {
  panel.close();
  chooser.value = String(part.index);
  listCards(part.header);
  const isImage = part.kind === "image" || part.kind === "compressed";
  const isTable = part.kind === "table" || part.kind === "text-table";
  stage.hidden = !isImage;
  tables.hidden = !isTable;
  panel.controls.forEach((control) => control.classList.toggle("absent", !isImage));
  document.querySelector(".table-controls").hidden = !isTable;
  const isCut = part.dataStart + part.dataBytes > file.size;
  const note = isCut ? "the file is cut: it ends within this part" : "";
  if (isImage) {
    const image = part.kind === "image" ? new PlainImage(file, part) : new CompressedImage(file, part);
    return panel.open(image, part.header, note);
  }
  if (isTable) {
    const found = part.kind === "table" ? columnsOf(part.header) : textColumnsOf(part.header);
    columns.offer(found);
    table = { part, rowBytes: part.header.count("NAXIS1"), count: part.header.count("NAXIS2"), note };
    return turn(Math.min(recallNumber("row", 1, { least: 1 }) - 1, Math.max(0, table.count - 1)));
  }
  cards.open = true;
  return part.kind === "empty" ? "This part has a header and no data." : "This part is neither an image nor a table: its header is below.";
}

// Shows the rows of a table from `first` on.
async function turn(first) {
  turning.abort();
  turning = new AbortController();
  const { part, rowBytes, count, note } = table;
  const present = Math.max(0, Math.min(count, Math.floor((file.size - part.dataStart) / Math.max(1, rowBytes))));
  pager.pageRows = Math.max(1, Math.min(200, Math.floor(PAGE_BYTES / Math.max(1, rowBytes))));
  if (rowBytes > 4 * PAGE_BYTES) {
    throw new Error(`A row of the table has ${formatBytes(rowBytes)}, too much for a preview.`);
  }
  const rows = Math.max(0, Math.min(pager.pageRows, present - first));
  const bytes = await file.readPart(part.dataStart + first * rowBytes, rows * rowBytes, { signal: turning.signal });
  const shown = columns.chosen;
  const values = Array.from({ length: rows }, (_, index) => {
    const row = bytes.subarray(index * rowBytes, (index + 1) * rowBytes);
    return shown.map((column) => column.read(row));
  });
  grid.show(shown, values, first);
  pager.show(first, rows, present);
  remember({ row: first === 0 ? null : first + 1 });
  return [`${count.toLocaleString("en")} rows, ${columns.count.toLocaleString("en")} columns`, note].filter(Boolean).join(" · ");
}

function listCards(header) {
  const filter = element("input", { type: "search", placeholder: "keyword or text", "aria-label": "Only cards that have" });
  const body = element("tbody");
  const left = element("p", { className: "left" });
  const fill = () => {
    const wanted = filter.value.toLowerCase();
    const found = header.cards.filter(({ keyword, value, comment }) => `${keyword} ${value ?? ""} ${comment}`.toLowerCase().includes(wanted));
    body.replaceChildren(...found.slice(0, SHOWN_CARDS).map(({ keyword, value, comment }) => element("tr", {},
      element("th", { scope: "row" }, keyword),
      element("td", { className: typeof value === "number" ? "number" : "" }, value === null ? "" : String(value)),
      element("td", {}, comment))));
    left.textContent = found.length > SHOWN_CARDS ? `… and ${(found.length - SHOWN_CARDS).toLocaleString("en")} cards more` : "";
  };
  const isOpen = cards.open;
  filter.addEventListener("input", fill);
  const head = element("tr", {}, ...["Keyword", "Value", "Comment"].map((name) => element("th", { scope: "col" }, name)));
  cards.replaceChildren(
    element("summary", {}, `Header (${header.cards.length.toLocaleString("en")} cards)`),
    filter,
    element("div", { className: "scroller", tabIndex: 0, role: "region", "aria-label": "Cards of the header" }, element("table", {}, element("thead", {}, head), body), left),
  );
  cards.open = isOpen;
  fill();
}

async function attempt(work) {
  say("loading", "Reading …");
  try {
    say("ready", await work());
  } catch (error) {
    if (error.name !== "AbortError") { // Somebody has gone on to something else, which says how it is.
      fail(error);
    }
  }
}
