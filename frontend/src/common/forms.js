// Controls with labels. (What is in a label is its `control`.)

import { element } from "./page.js";

// Returns a label with a list; `options` are [value, text] pairs, and `changed` is called with the value that is chosen.
export function chooser(label, options, value, changed) {
  const list = element("select", {}, ...options.map(([each, text]) => element("option", { value: each }, text)));
  list.value = value;
  list.addEventListener("change", () => changed(list.value));
  return element("label", {}, label, list);
}

// Returns a label with a box that is ticked or not.
export function tick(label, isTicked, changed) {
  const box = element("input", { type: "checkbox", checked: isTicked });
  box.addEventListener("change", () => changed(box.checked));
  return element("label", {}, box, label);
}

// Returns a label with a field for a number; what is no number is not passed on.
export function numberField(label, value, changed) {
  const field = element("input", { type: "number", step: "any", value: String(value) });
  field.addEventListener("change", () => {
    if (Number.isFinite(field.valueAsNumber)) {
      changed(field.valueAsNumber);
    }
  });
  return element("label", {}, label, field);
}

// Returns a label with a slider that tells its value; `name` says what a value means.
export function slider(label, max, value, changed, name = String) {
  const bar = element("input", { type: "range", min: 0, max, step: 1, value: String(value) });
  const told = element("output", {}, name(value));
  bar.addEventListener("input", () => {
    told.value = name(bar.valueAsNumber);
    changed(bar.valueAsNumber);
  });
  return element("label", {}, label, bar, told);
}

// Returns a button with a sign or a word, and what it does in words.
export function button(sign, name, act) {
  const made = element("button", { type: "button", "aria-label": name, title: name }, sign);
  made.addEventListener("click", act);
  return made;
}
