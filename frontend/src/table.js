// Shows tables: CSV and TSV from their beginning, Parquet by the rows and columns that are looked at.

import { recall, recallNumber, remember } from "./common/address.js";
import { chooser, tick } from "./common/forms.js";
import { Columns, Grid, Pager } from "./common/grid.js";
import { element, fail, formatBytes, run, say } from "./common/page.js";
import { RangeFile } from "./common/ranges.js";
import { DELIMITERS, TextTable } from "./table/texts.js";

// What the rows of a page may cost before somebody asks for more.
const BUDGET_BYTES = 1_400_000;
const MOST_BYTES = 256_000_000;

const view = document.getElementById("view");
const controls = document.getElementById("controls");
const facts = document.getElementById("facts");

let grid;
let pager;
let columns;
let latest = 0;

run(async (source) => {
  const file = await RangeFile.open(source);
  facts.textContent = formatBytes(file.size);
  const magic = String.fromCharCode(...(await file.read(0, 4)));
  controls.hidden = false;
  controls.addEventListener("submit", (event) => event.preventDefault());
  grid = new Grid(view, "Rows of the table");
  if (magic !== "PAR1") {
    return showText(file);
  }
  const { ParquetTable } = await import("./table/parquet.js"); // It is large, and most tables are texts.
  return showParquet(await ParquetTable.open(file));
});

// Shows pages by `turn(first)`, which returns the sentence that says what is seen.
function offer(turn, ...others) {
  pager = new Pager(controls, (first) => attempt(() => turn(first)));
  columns = new Columns(controls, () => attempt(() => turn(pager.first)));
  controls.append(...others);
}

async function showText(file) {
  let table;
  let hasHeader;
  const more = element("button", { type: "button" }, "Read more");

  const turn = (first) => {
    const all = table.rows.length - Number(hasHeader);
    const rows = table.rows.slice(first + Number(hasHeader), first + Number(hasHeader) + pager.pageRows);
    const shown = columns.chosen;
    grid.show(shown, rows.map((row) => shown.map(({ index }) => row[index] ?? "")), first);
    pager.show(first, rows.length, all, table.isWhole);
    more.hidden = !table.mayReadMore;
    remember({ row: first === 0 ? null : first + 1 });
    const count = `${columns.count.toLocaleString("en")} columns, delimited by ${DELIMITERS[table.delimiter] ?? "none"}`;
    return table.isWhole ? `${all.toLocaleString("en")} rows, ${count}` : `The first ${all.toLocaleString("en")} rows (${formatBytes(table.readBytes)} of ${formatBytes(file.size)}), ${count}`;
  };
  const parse = async () => {
    table = new TextTable(file, delimiters.control.value || undefined);
    await table.readMore();
    const given = recall("header");
    hasHeader = given === "1" || (given !== "0" && table.guessHeader());
    header.control.checked = hasHeader;
    columns.offer(table.describe(hasHeader));
    return turn(Math.min(recallNumber("row", 1, { least: 1 }), Math.max(1, table.rows.length - Number(hasHeader))) - 1);
  };
  const given = Object.hasOwn(DELIMITERS, recall("delimiter")) ? recall("delimiter") : "";
  const delimiters = chooser("Delimiter", [["", "guessed"], ...Object.entries(DELIMITERS)], given, (delimiter) => {
    remember({ delimiter });
    attempt(parse);
  });
  const header = tick("First row has the names", false, (isTicked) => {
    hasHeader = isTicked;
    remember({ header: hasHeader ? "1" : "0" });
    columns.offer(table.describe(hasHeader));
    attempt(() => turn(0));
  });
  offer(turn, delimiters, header, more);
  more.addEventListener("click", () => attempt(async () => {
    await table.readMore();
    columns.update(table.describe(hasHeader));
    return turn(pager.first);
  }));
  return parse();
}

async function showParquet(table) {
  let budget = BUDGET_BYTES;
  const all = element("button", { type: "button", hidden: true });
  const turn = async (first) => {
    const shown = columns.chosen;
    latest += 1;
    const mine = latest;
    const { rows, unread, unreadBytes } = await table.read(shown, first, pager.pageRows, budget);
    if (mine !== latest) {
      return null; // Somebody has gone on.
    }
    grid.show(shown, rows, first);
    pager.show(first, rows.length, table.rowCount);
    all.hidden = unread.length === 0 || budget === MOST_BYTES;
    all.textContent = `Read ${unread.length} more (up to ${formatBytes(unreadBytes)})`;
    remember({ row: first === 0 ? null : first + 1 });
    const said = [`${many(table.rowCount, "row")} in ${many(table.groupCount, "group")}, ${many(columns.count, "column")}`];
    if (unread.length > 0) {
      said.push(`${unread.length} of ${shown.length} are not read, for they are large here`);
    }
    return said.join(" · ");
  };
  offer(turn, all);
  all.addEventListener("click", () => {
    budget = MOST_BYTES;
    attempt(() => turn(pager.first));
  });
  columns.offer(table.columns);
  describeSchema(table);
  return turn(Math.max(0, Math.min(recallNumber("row", 1, { least: 1 }), table.rowCount) - 1));
}

function describeSchema(table) {
  const head = element("tr", {}, ...["Column", "Type", "May be null", "Compression"].map((name) => element("th", { scope: "col" }, name)));
  const rows = table.columns.slice(0, 1000).map(({ name, type, isOptional }) => element("tr", {},
    element("th", { scope: "row" }, name),
    element("td", {}, type),
    element("td", {}, isOptional ? "yes" : "no"),
    element("td", {}, String(table.codecOf(name)).toLowerCase())));
  view.append(element("details", { className: "schema" },
    element("summary", {}, "Schema"),
    element("div", { className: "scroller", tabIndex: 0, role: "region", "aria-label": "Columns of the table" },
      element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)),
      element("p", {}, table.writer))));
}

async function attempt(work) {
  say("loading", "Reading …");
  try {
    const sentence = await work();
    if (sentence !== null) {
      say("ready", sentence);
    }
  } catch (error) {
    fail(error);
  }
}

function many(count, thing) {
  return `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;
}
