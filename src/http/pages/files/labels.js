// Labels of the site: their templates, what waits for a printer, and what was not printed lately.

import { api } from "./api.js";
import { attempt, confirmDialog, openDialog, toast } from "./dialog.js";
import { button, h, put } from "./dom.js";
import { openDevice } from "./device.js";
import { area, field, input, showFaults } from "./form.js";
import * as format from "./format.js";
import { openPreview } from "./preview.js";
import { follow, heading } from "./projects.js";
import { T } from "./text.js";

const FAILURES = 10;

export async function showLabels(main, station) {
  const list = h("ul", { class: "cards" });
  const [waiting, failures] = [h("div"), h("div")];
  const draw = async () => {
    const { newest } = await api.get("/events?limit=1");
    const [{ labels }, { label_jobs: jobs }, { events }] = await Promise.all([
      api.get("/labels"),
      api.get("/label_jobs"),
      api.get(`/events?type=label.failed&before=${newest + 1}&limit=${FAILURES}`),
    ]);
    const order = labels.sort((a, b) => format.byName(a.name, b.name));
    put(list, order.length ? order.map((label) => card(label, draw)) : h("li", { class: "empty" }, T.labels.empty));
    put(waiting, jobs.length ? queues(jobs, station) : h("p", { class: "hint" }, T.labels.noneWaits));
    put(failures, events.length ? failed(events, station) : h("p", { class: "hint" }, T.labels.noFailures));
  };
  await draw();
  put(
    main,
    heading(
      T.labels.title,
      button(T.labels.create, () => edit({}, draw), { sign: "plus", kind: "main" }),
    ),
    h("p", { class: "lead" }, T.labels.lead),
    list,
    h("section", {}, h("h2", {}, T.labels.waiting), waiting),
    h("section", {}, h("h2", {}, T.labels.failures), failures),
  );
  return follow(station, ["label.", "station.alarm."], () => attempt(draw));
}

function card(label, draw) {
  const open = async () => {
    const found = await attempt(() => api.get(`/labels/${label.id}`));
    if (found) edit(found.label, draw);
  };
  const remove = async () => {
    if (!(await confirmDialog(T.labels.removeSure(label.name), T.labels.remove))) return;
    if (await attempt(() => api.delete(`/labels/${label.id}`))) await attempt(draw);
  };
  const one = (word, click) => button(word, click, { "aria-label": `${word} ${label.name}` });
  return h(
    "li",
    { class: "card", data: { label: label.id } },
    h("header", {}, h("h2", {}, label.name), h("span", { class: "hint" }, T.labels.revision(label.revision))),
    h("p", { class: "hint" }, `${format.bytes(label.size_bytes)} · ${format.moment(label.updated_at)}`),
    h(
      "footer",
      { class: "row" },
      one(T.labels.preview, () => attempt(() => openPreview(label.id, { name: label.name }))),
      one(T.labels.edit, open),
      one(T.labels.remove, remove),
    ),
  );
}

/** A printer each: its alarm, if it has one, and what waits for it. */
function queues(jobs, station) {
  const printers = [...new Set(jobs.map(({ printer }) => printer))].sort(format.byName);
  return printers.map((printer) => {
    const alarm = station.alarms.get(`printer.${printer}`);
    return h(
      "div",
      { class: "card queue", data: { printer } },
      h("header", {}, h("h3", {}, printer)),
      alarm ? h("p", { class: "advice" }, alarm) : null,
      h(
        "ol",
        { class: "plain" },
        jobs.filter((job) => job.printer === printer).map((job) => jobRow(job, station)),
      ),
    );
  });
}

function jobRow(job, station) {
  const notes = [
    job.reprint && T.labels.again,
    job.required && T.labels.stillRequired,
    T.labels.until(format.moment(job.expires_at)),
  ];
  return h(
    "li",
    { class: "row" },
    h("strong", {}, job.label),
    whose(job.mac, station),
    h("span", { class: "hint" }, notes.filter(Boolean).join(" · ")),
  );
}

function whose(mac, station, serial) {
  const name = serial ?? format.shortSerial(station.floor.devices.get(mac) ?? { mac });
  return button(name, () => openDevice(mac, station), { kind: "small", "aria-label": T.device.title(name) });
}

function failed(events, station) {
  return h(
    "ol",
    { class: "plain" },
    [...events].reverse().map(({ time, data }) =>
      h(
        "li",
        { class: "card failure" },
        h(
          "p",
          { class: "row" },
          h("time", { datetime: time }, format.moment(time)),
          h("strong", {}, data.label),
          whose(data.mac, station, data.serial),
          h("span", { class: "hint" }, data.printer ?? ""),
        ),
        h("p", {}, h("code", {}, data.code), " ", data.detail),
        data.advice ? h("p", { class: "hint" }, data.advice) : null,
      ),
    ),
  );
}

function edit(label, draw) {
  const name = input(label.name, { required: true, maxlength: 200, disabled: label.id !== undefined });
  const text = area(label.text ?? "^XA\n{{ device.serial }}\n^XZ\n", { rows: 14, class: "code" });
  const faults = h("div", { class: "faults", role: "alert" });
  const save = async (event) => {
    event.preventDefault();
    try {
      const wanted = { name: name.value, text: text.value };
      await api.post("/labels", wanted, { revision: label.revision });
      dialog.close();
      toast(T.labels.saved);
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
    field(T.labels.name, name, { pointer: "/name" }),
    field(T.labels.text, text, { pointer: "/text", hint: T.labels.textHint, wide: true }),
    h(
      "footer",
      { class: "row" },
      h("button", { type: "submit", class: "button main" }, T.labels.save),
      button(T.labels.cancel, () => dialog.close()),
    ),
  );
  const dialog = openDialog(label.name ?? T.labels.create, form, { kind: "large" });
}
