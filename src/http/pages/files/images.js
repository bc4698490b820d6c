// The images of the station: how they come in, what is in them, and how they go.

import { api } from "./api.js";
import { attempt, confirmDialog } from "./dialog.js";
import { button, h, icon, put, write } from "./dom.js";
import { field, input } from "./form.js";
import * as format from "./format.js";
import { follow, heading } from "./projects.js";
import { T } from "./text.js";
import { Upload } from "./upload.js";

/** They go on while other views are shown. */
const uploads = new Set();

export async function showImages(main, station) {
  const list = h("ul", { class: "cards" });
  const coming = h("ul", { class: "coming", "aria-label": T.images.uploads });
  const work = h("ul", { class: "coming", "aria-label": T.images.work });
  const draw = async () => {
    const [{ images }, { projects }] = await Promise.all([api.get("/images"), api.get("/projects")]);
    const users = (id) =>
      projects
        .filter((project) => project.image === id || project.sizes?.some((size) => size.image === id))
        .map(({ name }) => name);
    const order = images.sort((a, b) => (b.added_at ?? "9").localeCompare(a.added_at ?? "9"));
    put(
      list,
      order.length
        ? order.map((image) => card(image, users(image.id), draw))
        : h("li", { class: "empty" }, T.images.empty),
    );
  };
  const drawComing = () =>
    put(
      coming,
      [...uploads].map((upload) => uploadRow(upload, draw, drawComing)),
    );
  const jobs = jobWatch(work, draw);
  const take = (files, sum) => {
    for (const file of files) {
      const upload = new Upload(file, sum);
      uploads.add(upload);
      upload.run();
    }
    drawComing();
  };
  await draw();
  put(
    main,
    heading(T.images.title),
    dropPlace(T.images.drop, T.images.hint, take),
    fetchForm(jobs.look),
    coming,
    work,
    list,
  );
  drawComing();
  jobs.look();
  const stop = follow(station, ["image.", "project."], () => attempt(draw));
  return () => {
    stop();
    jobs.stop();
  };
}

/** Where files are dropped or chosen. */
export function dropPlace(text, hint, take) {
  const chooser = h("input", { type: "file", multiple: true, class: "unseen", tabindex: "-1", "aria-hidden": "true" });
  chooser.addEventListener("change", () => {
    take([...chooser.files]);
    chooser.value = "";
  });
  const place = h(
    "div",
    { class: "drop" },
    icon("upload"),
    h(
      "p",
      {},
      text,
      " ",
      button(T.images.choose, () => chooser.click(), { kind: "main" }),
    ),
    h("p", { class: "hint" }, hint),
    chooser,
  );
  const over = (is) => (event) => {
    event.preventDefault();
    place.classList.toggle("over", is);
  };
  place.addEventListener("dragover", over(true));
  place.addEventListener("dragleave", over(false));
  place.addEventListener("drop", (event) => {
    over(false)(event);
    take([...event.dataTransfer.files]);
  });
  return place;
}

function bar(part, label) {
  const inner = h("span");
  inner.style.setProperty("--part", part);
  return h(
    "span",
    {
      class: "bar",
      role: "progressbar",
      "aria-label": label,
      "aria-valuemin": "0",
      "aria-valuemax": "100",
      "aria-valuenow": String(Math.round(part * 100)),
    },
    inner,
  );
}

function uploadRow(upload, draw, drawComing) {
  const { file } = upload;
  const progress = bar(0, file.name);
  const words = h("span", { class: "hint" });
  const tools = h("span", { class: "row" });
  let shown;
  const update = () => {
    const part = upload.state === "looking" ? (upload.looked ?? 0) : upload.sent / Math.max(file.size, 1);
    progress.firstChild.style.setProperty("--part", part);
    progress.setAttribute("aria-valuenow", String(Math.round(part * 100)));
    const seconds = (Date.now() - upload.startedAt) / 1000;
    const figures =
      upload.state === "uploading"
        ? `${format.bytes(upload.sent)} / ${format.bytes(file.size)} · ${format.rate(upload.sent / Math.max(seconds, 0.1))}`
        : "";
    write(words, [T.images[upload.state], figures, upload.detail].filter(Boolean).join(" · "));
    if (shown === upload.state) return;
    shown = upload.state;
    node.dataset.state = shown;
    const forget = () => {
      uploads.delete(upload);
      drawComing();
    };
    const stop = async () => {
      await upload.giveUp();
      forget();
    };
    put(
      tools,
      shown === "uploading" || shown === "broken" ? button(T.images.pause, () => upload.pause()) : null,
      shown === "paused" ? button(T.images.resume, () => upload.run()) : null,
      upload.isOver
        ? button(T.dialog.ok, forget)
        : shown === "looking"
          ? null
          : button(T.images.drop_it, stop, { kind: "danger" }),
    );
    if (shown === "ready") attempt(draw).then(forget);
  };
  const node = h("li", { class: "card upload" }, h("strong", { class: "grow" }, file.name), progress, words, tools);
  upload.addEventListener("change", update);
  update();
  return node;
}

function fetchForm(look) {
  const [url, sum] = [input("", { type: "url", required: true }), input("", { pattern: "[0-9a-fA-F]{64}" })];
  const send = async (event) => {
    event.preventDefault();
    const asked = { url: url.value.trim(), ...(sum.value.trim() ? { sha256: sum.value.trim() } : {}) };
    if (!(await attempt(() => api.post("/images/fetch", asked)))) return;
    url.value = "";
    sum.value = "";
    look();
  };
  return h(
    "details",
    { class: "card" },
    h("summary", {}, T.images.url),
    h(
      "form",
      { class: "filters", on: { submit: send } },
      field("URL", url, { wide: true }),
      field(T.images.sha256, sum, { wide: true }),
      h("button", { type: "submit", class: "button main" }, T.images.fetch),
    ),
  );
}

/** Work of the station that has not ended: asked for as long as there is any. */
function jobWatch(list, draw) {
  let timer;
  let open = 0;
  const look = async () => {
    clearTimeout(timer);
    const { jobs } = await api.get("/jobs").catch(() => ({ jobs: [] }));
    const own = new Set([...uploads].map((upload) => upload.file.name));
    const running = jobs.filter((job) => job.state === "running" && !own.has(job.name));
    put(list, running.map(jobRow));
    if (running.length < open) attempt(draw);
    open = running.length;
    timer = setTimeout(look, open ? 1000 : 10_000);
  };
  return { look, stop: () => clearTimeout(timer) };
}

function jobRow(job) {
  const part = job.bytes_total ? job.bytes_done / job.bytes_total : 0;
  const cancel = () => attempt(() => api.post(`/jobs/${job.id}/cancel`));
  return h(
    "li",
    { class: "card upload" },
    h("strong", { class: "grow" }, job.name),
    bar(part, job.name),
    h("span", { class: "hint" }, job.stage === "fetch" ? T.images.fetching : T.images.ingesting),
    button(T.images.cancel, cancel),
  );
}

function card(image, users, draw) {
  const remove = async () => {
    if (!(await confirmDialog(T.images.removeSure(image.name), T.images.remove))) return;
    if (await attempt(() => api.delete(`/images/${image.id}`))) await attempt(draw);
  };
  const known = image.raw_size_bytes !== undefined;
  const form = image.kept?.form;
  return h(
    "li",
    { class: "card image", data: { state: image.state } },
    h(
      "header",
      {},
      h("h2", {}, image.name),
      h(
        "span",
        { class: `badge ${image.state === "ready" ? "good" : image.state === "damaged" ? "bad" : ""}` },
        T.images[image.state] ?? image.state,
      ),
    ),
    known ? partitions(image) : null,
    h(
      "p",
      { class: "hint" },
      [
        known && `${T.images.raw} ${format.bytes(image.raw_size_bytes)}`,
        image.size_bytes && `${T.images.file} ${format.bytes(image.size_bytes)} ${image.compression ?? ""}`,
        image.zero_bytes ? T.images.zeros(format.percent(image.zero_bytes, image.raw_size_bytes)) : "",
        form && T.images.transcoded(form.compression),
        image.added_at && `${T.images.added} ${format.moment(image.added_at)}`,
      ]
        .filter(Boolean)
        .join(" · "),
    ),
    image.kept?.damage ? h("p", { class: "advice" }, image.kept.damage) : null,
    users.length ? h("p", {}, T.images.used(users.join(", "))) : null,
    h(
      "footer",
      { class: "row" },
      h("code", { class: "grow", title: image.id }, format.digest(image.id)),
      button(T.images.remove, remove, { "aria-label": `${T.images.remove} ${image.name}` }),
    ),
  );
}

/** What is where on the medium, to scale. */
function partitions(image) {
  const found = image.partitions?.partitions ?? [];
  if (!found.length) return null;
  const part = ({ index, start_bytes: start, size_bytes: size, name }) => {
    const node = h("span", { title: `p${index} ${name ?? ""} ${format.bytes(size)}` }, `p${index}`);
    node.style.setProperty("--from", start / image.raw_size_bytes);
    node.style.setProperty("--part", size / image.raw_size_bytes);
    return node;
  };
  return h(
    "div",
    {
      class: "partitions",
      role: "img",
      "aria-label": found.map(({ index, size_bytes: size }) => `p${index} ${format.bytes(size)}`).join(", "),
    },
    found.map(part),
  );
}
