// A table of rows with numbers, nulls told from texts, long texts clipped, and controls to go through its pages.

import { recall, remember } from "./address.js";
import { button } from "./forms.js";
import { element } from "./page.js";

const CLIPPED_CHARACTERS = 120;
const WHOLE_CHARACTERS = 200_000;

// So many columns are shown at a time.
const SHOWN_COLUMNS = 50;

// Shows rows in `container`, which scrolls.
export class Grid {
  #table = element("table", { className: "grid" });
  #dialog = element("dialog", { className: "whole" });

  constructor(container, label) {
    const scroller = element("div", { className: "scroller", tabIndex: 0, role: "region", "aria-label": label }, this.#table);
    container.append(scroller, this.#dialog);
  }

  // `columns` are {name, type, isNumber}; `rows` are lists of values, of which undefined is what was not read.
  show(columns, rows, firstRow) {
    const head = element("tr", {}, element("th", { scope: "col", className: "row-number" }, "Row"));
    for (const { name, type, isNumber } of columns) {
      const cell = element("th", { scope: "col", className: isNumber ? "number" : "" }, name === "" ? "(no name)" : clip(name));
      if (type) {
        cell.append(element("small", {}, type));
      }
      head.append(cell);
    }
    const body = element("tbody");
    rows.forEach((row, index) => {
      const number = firstRow + index + 1;
      const line = element("tr", {}, element("th", { scope: "row", className: "row-number" }, number.toLocaleString("en")));
      columns.forEach((column, position) => line.append(this.#cell(column, row[position], number)));
      body.append(line);
    });
    this.#table.replaceChildren(element("thead", {}, head), body);
    this.#table.parentElement.scrollTop = 0;
  }

  #cell(column, value, number) {
    const cell = element("td", { className: column.isNumber ? "number" : "" });
    if (value === null || value === undefined) {
      cell.append(element("span", { className: "null" }, value === null ? "null" : "…"));
      return cell;
    }
    const text = formatValue(value);
    cell.append(clip(text));
    if (text.length > CLIPPED_CHARACTERS) {
      const more = element("button", { type: "button", "aria-label": `All of ${clip(column.name)} in row ${number}` }, "all");
      more.addEventListener("click", () => this.#showWhole(`${clip(column.name)}, row ${number}`, text));
      cell.append(" ", more);
    }
    return cell;
  }

  #showWhole(title, text) {
    const close = element("button", { type: "button" }, "Close");
    close.addEventListener("click", () => this.#dialog.close());
    const rest = text.length > WHOLE_CHARACTERS ? `\n… and ${(text.length - WHOLE_CHARACTERS).toLocaleString("en")} characters more` : "";
    this.#dialog.setAttribute("aria-label", title);
    this.#dialog.replaceChildren(
      element("h2", {}, title),
      element("pre", { tabIndex: 0 }, text.slice(0, WHOLE_CHARACTERS) + rest),
      close,
    );
    this.#dialog.showModal();
  }
}

// Buttons and a field that go to another page of rows; `go(first)` is called with the number of its first row, from 0.
export class Pager {
  #go;
  #first = 0;
  #count = 0;
  #said = element("span", { className: "pages" });
  #field = element("input", { type: "number", min: 1, step: 1, className: "short" });
  #buttons;

  pageRows = 200;

  constructor(container, go) {
    this.#go = go;
    this.#buttons = {
      first: button("«", "First rows", () => this.#turn(0)),
      previous: button("‹", "Rows before", () => this.#turn(this.#first - this.pageRows)),
      next: button("›", "Next rows", () => this.#turn(this.#first + this.pageRows)),
      last: button("»", "Last rows", () => this.#turn(Math.floor((this.#count - 1) / this.pageRows) * this.pageRows)),
    };
    this.#field.addEventListener("change", () => {
      const row = Number(this.#field.value);
      if (Number.isInteger(row) && row >= 1) {
        this.#turn(row - 1);
      }
    });
    const { first, previous, next, last } = this.#buttons;
    container.append(
      element("span", { className: "pager", role: "group", "aria-label": "Rows" }, first, previous, this.#said, next, last),
      element("label", {}, "From row", this.#field),
    );
  }

  // The number of the first row that is shown, from 0.
  get first() {
    return this.#first;
  }

  // `count` rows are known; `isAll` says that there are no more.
  show(first, shown, count, isAll = true) {
    [this.#first, this.#count] = [first, count];
    const total = `${isAll ? "" : "more than "}${count.toLocaleString("en")}`;
    this.#said.textContent = count === 0 ? "no rows" : `${(first + 1).toLocaleString("en")}–${(first + shown).toLocaleString("en")} of ${total}`;
    this.#field.value = String(Math.min(first + 1, Math.max(count, 1)));
    this.#field.max = String(Math.max(count, 1));
    this.#buttons.first.disabled = this.#buttons.previous.disabled = first === 0;
    this.#buttons.next.disabled = this.#buttons.last.disabled = first + shown >= count;
  }

  #turn(first) {
    this.#go(Math.max(0, Math.min(first, this.#count - 1)));
  }
}

// A field that chooses columns by their names, and buttons for those that are more than can be shown at a time.
export class Columns {
  #all = [];
  #start = 0;
  #field = element("input", { type: "search", placeholder: "all", "aria-label": "Columns whose name has one of these words" });
  #said = element("span", { className: "pages" });
  #previous = button("‹", "Columns before", () => this.#turn(Math.max(0, this.#start - SHOWN_COLUMNS)));
  #next = button("›", "Further columns", () => this.#turn(this.#start + SHOWN_COLUMNS));
  #changed;

  constructor(container, changed) {
    this.#field.value = recall("columns") ?? "";
    this.#changed = changed;
    this.#field.addEventListener("change", () => this.#turn(0));
    container.append(element("span", { className: "pager", role: "group", "aria-label": "Columns" }, "Columns", this.#field, this.#previous, this.#said, this.#next));
  }

  // Columns have a name at least.
  offer(columns) {
    this.#all = columns;
    this.#start = 0;
    this.#tell();
  }

  // The columns again, of which more is known now.
  update(columns) {
    this.#all = columns;
    this.#tell();
  }

  get count() {
    return this.#all.length;
  }

  // Those to be shown.
  get chosen() {
    return this.#matching.slice(this.#start, this.#start + SHOWN_COLUMNS);
  }

  #turn(start) {
    this.#start = start;
    this.#tell();
    remember({ columns: this.#field.value });
    this.#changed();
  }

  get #matching() {
    const words = this.#field.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    return words.length === 0 ? this.#all : this.#all.filter(({ name }) => words.some((word) => name.toLowerCase().includes(word)));
  }

  #tell() {
    const count = this.#matching.length;
    const last = Math.min(this.#start + SHOWN_COLUMNS, count);
    this.#said.textContent = count === 0 ? "none" : `${this.#start + 1}–${last} of ${count.toLocaleString("en")}`;
    this.#previous.disabled = this.#start === 0;
    this.#next.disabled = last >= count;
  }
}

export function clip(text) {
  return text.length > CLIPPED_CHARACTERS ? `${text.slice(0, CLIPPED_CHARACTERS)}…` : text;
}

// Returns how a value is written.
export function formatValue(value) {
  if (typeof value === "string") {
    return value;
  }
  if (value instanceof Date) {
    return Number.isNaN(value.getTime()) ? "no date" : value.toISOString().replace("T00:00:00.000Z", "").replace(".000Z", "Z");
  }
  if (value instanceof Uint8Array) {
    const text = legible(value);
    if (text !== null) {
      return text;
    }
    const shown = Array.from(value.subarray(0, 32), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return `${shown}${value.length > 32 ? ` … (${value.length} bytes)` : ""}`;
  }
  if (ArrayBuffer.isView(value)) {
    return formatValue(Array.from(value));
  }
  if (typeof value === "object") {
    return JSON.stringify(value, (_, inner) => {
      if (typeof inner === "bigint") {
        return Number.isSafeInteger(Number(inner)) ? Number(inner) : String(inner);
      }
      return inner instanceof Uint8Array ? formatValue(inner) : inner;
    });
  }
  return String(value);
}

// Returns the text that bytes are, as older programs write texts; null where they are none.
function legible(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return /[\x00-\x08\x0e-\x1f]/.test(text) ? null : text;
  } catch {
    return null; // It is no UTF-8.
  }
}
