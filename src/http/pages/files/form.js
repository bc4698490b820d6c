// Fields that know where in a request they stand, so that what the station finds wrong is said where it is wrong.

import { h, put } from "./dom.js";

let count = 0;

/** A label, its control, a hint, and room for what is wrong. `pointer` is a JSON pointer below /params. */
export function field(label, control, { hint, pointer, wide } = {}) {
  count += 1;
  const id = control.id || `field-${count}`;
  control.id = id;
  const notes = [
    hint && h("span", { class: "hint", id: `${id}-hint` }, hint),
    h("span", { class: "fault", id: `${id}-fault` }),
  ];
  control.setAttribute("aria-describedby", `${hint ? `${id}-hint ` : ""}${id}-fault`);
  return h(
    "div",
    { class: `field ${wide ? "wide" : ""}`, data: pointer ? { pointer } : {} },
    h("label", { for: id }, label),
    control,
    notes,
  );
}

/** Several controls under one name. */
export function group(legend, children, { hint, pointer } = {}) {
  return h(
    "fieldset",
    { data: pointer ? { pointer } : {} },
    h("legend", {}, legend),
    hint && h("p", { class: "hint" }, hint),
    children,
    h("span", { class: "fault" }),
  );
}

export function check(label, checked, { pointer, hear } = {}) {
  count += 1;
  const box = h("input", { type: "checkbox", id: `field-${count}`, checked, on: hear ? { change: hear } : {} });
  const node = h(
    "div",
    { class: "check", data: pointer ? { pointer } : {} },
    box,
    h("label", { for: box.id }, label),
    h("span", { class: "fault" }),
  );
  return { node, box };
}

export function select(options, value, hear) {
  return h(
    "select",
    { on: hear ? { change: hear } : {} },
    options.map(([key, label]) => h("option", { value: key, selected: key === value }, label)),
  );
}

export function input(value, props = {}) {
  return h("input", { type: "text", autocomplete: "off", spellcheck: "false", value: value ?? "", ...props });
}

export function area(value, props = {}) {
  return h("textarea", { rows: 4, spellcheck: "false", autocomplete: "off", value: value ?? "", ...props });
}

export function clearFaults(form) {
  for (const node of form.querySelectorAll(".fault")) put(node);
  for (const node of form.querySelectorAll("[aria-invalid]")) node.removeAttribute("aria-invalid");
}

/** Puts each fault at the field with the longest pointer that leads to it; returns those that have no field. */
export function showFaults(form, problem) {
  clearFaults(form);
  const fields = [...form.querySelectorAll("[data-pointer]")];
  const left = [];
  let first;
  for (const { pointer, detail } of problem.errors) {
    const place = pointer.replace(/^\/params/, "");
    const holds = (node) => place === node.dataset.pointer || place.startsWith(`${node.dataset.pointer}/`);
    const node = fields.filter(holds).sort((a, b) => b.dataset.pointer.length - a.dataset.pointer.length)[0];
    if (!node) {
      left.push(detail);
      continue;
    }
    const control = node.querySelector("input, select, textarea");
    control?.setAttribute("aria-invalid", "true");
    // Its own room, not that of a field inside.
    const rooms = [...node.querySelectorAll(".fault")];
    (rooms.find((room) => room.parentNode === node) ?? rooms.at(-1)).append(detail);
    first ??= control;
  }
  first?.focus();
  return problem.errors.length ? left : [problem.message];
}
