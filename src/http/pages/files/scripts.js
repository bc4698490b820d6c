// The scripts of the site, and their editor.

import { api } from "./api.js";
import { attempt, confirmDialog, openDialog, toast } from "./dialog.js";
import { button, h, put } from "./dom.js";
import { area, check, field, input, select, showFaults } from "./form.js";
import * as format from "./format.js";
import { follow, heading } from "./projects.js";
import { T } from "./text.js";

export async function showScripts(main, station) {
  const list = h("ul", { class: "cards" });
  const draw = async () => {
    const { scripts } = await api.get("/scripts");
    const order = scripts.sort((a, b) => format.byName(a.name, b.name));
    put(list, order.length ? order.map((script) => card(script, draw)) : h("li", { class: "empty" }, T.scripts.empty));
  };
  await draw();
  put(
    main,
    heading(
      T.scripts.title,
      button(T.scripts.create, () => edit({}, draw), { sign: "plus", kind: "main" }),
    ),
    h("p", { class: "lead" }, T.scripts.lead),
    list,
  );
  return follow(station, ["script."], () => attempt(draw));
}

function card(script, draw) {
  const open = async () => {
    const found = await attempt(() => api.get(`/scripts/${script.id}`));
    if (found) edit({ ...found.script, text: found.text }, draw);
  };
  const remove = async () => {
    if (!(await confirmDialog(T.scripts.removeSure(script.name), T.scripts.remove))) return;
    if (await attempt(() => api.delete(`/scripts/${script.id}`))) await attempt(draw);
  };
  const manner = [
    script.on_failure === "warn" ? T.scripts.warn : T.scripts.fail,
    script.background && T.scripts.inBackground,
    T.scripts.within(script.timeout_s),
  ]
    .filter(Boolean)
    .join(" · ");
  return h(
    "li",
    { class: "card" },
    h("header", {}, h("h2", {}, script.name), h("span", { class: "hint" }, T.scripts.revision(script.revision))),
    h("p", {}, `${T.scripts.onFailure}: ${manner}`),
    h("p", { class: "hint" }, `${format.bytes(script.size_bytes)} · ${format.moment(script.updated_at)}`),
    h(
      "footer",
      { class: "row" },
      button(T.scripts.edit, open, { "aria-label": `${T.scripts.edit} ${script.name}` }),
      button(T.scripts.remove, remove, { "aria-label": `${T.scripts.remove} ${script.name}` }),
    ),
  );
}

function edit(script, draw) {
  const name = input(script.name, { required: true, maxlength: 200, disabled: script.id !== undefined });
  const text = area(script.text ?? "#!/bin/sh\n", { rows: 16, class: "code" });
  const onFailure = select(
    [
      ["fail", T.scripts.fail],
      ["warn", T.scripts.warn],
    ],
    script.on_failure ?? "fail",
  );
  const background = check(T.scripts.background, script.background ?? false, { pointer: "/background" });
  const timeout = input(script.timeout_s ?? 300, { type: "number", min: 1, class: "short" });
  const faults = h("div", { class: "faults", role: "alert" });
  const save = async (event) => {
    event.preventDefault();
    const wanted = {
      name: name.value,
      text: text.value,
      on_failure: onFailure.value,
      background: background.box.checked,
      timeout_s: Number(timeout.value),
    };
    try {
      await api.post("/scripts", wanted, { revision: script.revision });
      dialog.close();
      toast(T.scripts.saved);
      await attempt(draw);
    } catch (problem) {
      put(
        faults,
        showFaults(form, problem).map((line) => h("p", {}, line)),
      );
    }
  };
  const form = h(
    "form",
    { class: "editor", novalidate: true, on: { submit: save } },
    faults,
    field(T.scripts.name, name, { pointer: "/name" }),
    field(T.scripts.text, text, { pointer: "/text", wide: true }),
    h(
      "div",
      { class: "fields" },
      field(T.scripts.onFailure, onFailure, { pointer: "/on_failure" }),
      field(T.scripts.timeout, timeout, { pointer: "/timeout_s" }),
    ),
    background.node,
    h(
      "footer",
      { class: "row" },
      h("button", { type: "submit", class: "button main" }, T.scripts.save),
      button(T.scripts.cancel, () => dialog.close()),
    ),
  );
  const dialog = openDialog(script.name ?? T.scripts.create, form, { kind: "large" });
}
