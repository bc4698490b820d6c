// The labels of a project: which one is printed when and where, and how it looks.

import { attempt } from "./dialog.js";
import { button, h, put, signButton } from "./dom.js";
import { field, input, select } from "./form.js";
import { openPreview } from "./preview.js";
import { T } from "./text.js";

export function labelsPart(project, labels) {
  const rows = [];
  const list = h("div", { class: "rows labels" });
  const adder = select(
    [["", T.labels.add], ...labels.map(({ id, name }) => [id, name])],
    "",
    () => adder.value && (add({ label: adder.value, on: "passed" }), (adder.value = "")),
  );
  adder.setAttribute("aria-label", T.labels.add);
  const place = () => {
    rows.forEach((row, at) => row.place(`/labels/${at}`));
    if (!rows.length) put(list, h("p", { class: "hint" }, T.labels.noLabels));
  };
  const add = (wanted) => {
    if (!rows.length) put(list);
    const row = labelRow(wanted, labels, project, () => {
      rows.splice(rows.indexOf(row), 1);
      row.node.remove();
      place();
    });
    rows.push(row);
    list.append(row.node);
    place();
  };
  (project.labels ?? []).forEach(add);
  place();
  const node = h(
    "section",
    { data: { pointer: "/labels" } },
    h("h2", {}, T.labels.ofProject),
    h("p", { class: "hint" }, T.labels.ofProjectHint),
    list,
    adder,
    h("span", { class: "fault" }),
  );
  return { node, read: () => ({ labels: rows.map((row) => row.read()) }) };
}

function labelRow(wanted, labels, project, remove) {
  const name = labels.find(({ id }) => id === wanted.label)?.name ?? wanted.label;
  const on = select(Object.entries(T.labels.on), wanted.on);
  const onFailure = select(Object.entries(T.labels.onFailure), wanted.on_failure ?? "warn");
  const printer = input(wanted.printer);
  const preview = () => attempt(() => openPreview(wanted.label, { name, project: project.id }));
  const fields = {
    on: field(T.labels.when, on),
    printer: field(T.labels.printer, printer, { hint: T.labels.printerHint }),
    on_failure: field(T.labels.unprinted, onFailure),
  };
  const node = h(
    "div",
    { class: "label-row", role: "group", "aria-label": name },
    h(
      "div",
      { class: "row" },
      h("strong", { class: "grow" }, name),
      button(T.labels.preview, preview, { "aria-label": `${T.labels.preview}: ${name}` }),
      signButton("close", `${T.labels.takeOut}: ${name}`, remove),
    ),
    h("div", { class: "fields" }, Object.values(fields)),
    h("span", { class: "fault" }),
  );
  const place = (pointer) => {
    node.dataset.pointer = pointer;
    for (const [name, one] of Object.entries(fields)) one.dataset.pointer = `${pointer}/${name}`;
  };
  const read = () => {
    const told = { label: wanted.label, on: on.value, on_failure: onFailure.value };
    if (printer.value.trim()) told.printer = printer.value.trim();
    return told;
  };
  return { node, place, read };
}
