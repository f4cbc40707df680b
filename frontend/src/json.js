// Shows JSON as a tree whose branches are made as they are opened.

import { element, formatBytes, run } from "./common/page.js";
import { RangeFile } from "./common/ranges.js";

// What a browser parses without a pause that one notices.
const MAX_BYTES = 32 * 1024 * 1024;

// Of one branch; more are made as somebody asks.
const CHILDREN = 200;

const view = document.getElementById("view");

run(async (source) => {
  const file = await RangeFile.open(source);
  document.getElementById("facts").textContent = formatBytes(file.size);
  if (file.size > MAX_BYTES) {
    const head = new TextDecoder().decode(await file.read(0, 65536));
    view.append(element("pre", {}, head));
    return `The file has ${formatBytes(file.size)}, more than can be shown as a tree: this is its beginning.`;
  }
  const text = new TextDecoder().decode(await file.read(0, file.size));
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    view.append(element("pre", {}, text.slice(0, 65536)));
    throw new Error(`This is no JSON: ${error.message}`);
  }
  const tree = element("ul", { className: "tree" }, branch(null, value, true));
  view.append(tree);
  return "";
});

function branch(name, value, isOpen = false) {
  const label = name === null ? [] : [element("span", { className: "name" }, String(name)), ": "];
  if (value === null || typeof value !== "object") {
    return element("li", {}, ...label, element("span", { className: typeof value }, JSON.stringify(value)));
  }
  const isList = Array.isArray(value);
  const entries = isList ? value.map((item, index) => [index, item]) : Object.entries(value);
  const count = isList ? `[${entries.length}]` : `{${entries.length}}`;
  if (entries.length === 0) {
    return element("li", {}, ...label, element("span", { className: "count" }, isList ? "[ ]" : "{ }"));
  }
  const children = element("ul");
  const details = element("details", { open: isOpen }, element("summary", {}, ...label, element("span", { className: "count" }, count)), children);
  const fill = () => {
    if (details.open && children.childElementCount === 0) {
      grow(children, entries, 0);
    }
  };
  details.addEventListener("toggle", fill);
  fill();
  return element("li", {}, details);
}

function grow(list, entries, start) {
  list.append(...entries.slice(start, start + CHILDREN).map(([name, value]) => branch(name, value)));
  const left = entries.length - start - CHILDREN;
  if (left > 0) {
    const more = element("button", { type: "button" }, `${left.toLocaleString("en")} more`);
    const item = element("li", {}, more);
    more.addEventListener("click", () => {
      item.remove();
      grow(list, entries, start + CHILDREN);
      list.children[start + CHILDREN]?.querySelector("summary, button")?.focus();
    });
    list.append(item);
  }
}
