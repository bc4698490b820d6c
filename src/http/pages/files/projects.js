// The projects of the station: what each writes, whether it is active, and what the day has brought it.

import { api } from "./api.js";
import { attempt } from "./dialog.js";
import { button, h, icon, put } from "./dom.js";
import * as format from "./format.js";
import { T } from "./text.js";

/** Calls `refresh` when one of these happens, not more than three times a second; returns how to stop. */
export function follow(station, prefixes, refresh) {
  let timer;
  const hear = ({ detail }) => {
    if (!prefixes.some((prefix) => detail.name.startsWith(prefix)) || timer) return;
    timer = setTimeout(() => {
      timer = undefined;
      refresh();
    }, 300);
  };
  station.addEventListener("news", hear);
  return () => {
    clearTimeout(timer);
    station.removeEventListener("news", hear);
  };
}

export function heading(title, ...beside) {
  return h("div", { class: "heading" }, h("h1", {}, title), beside);
}

export async function showProjects(main, station) {
  const list = h("ul", { class: "cards" });
  const draw = async () => {
    const [{ projects }, { images }] = await Promise.all([api.get("/projects"), api.get("/images")]);
    const names = new Map(images.map((image) => [image.id, image.name]));
    const order = projects.sort((a, b) => Number(b.active) - Number(a.active) || format.byName(a.name, b.name));
    if (order.length)
      put(
        list,
        order.map((project) => card(project, names, station, draw)),
      );
    else
      put(
        list,
        h("li", { class: "empty" }, h("p", {}, T.projects.empty), h("p", { class: "hint" }, T.projects.emptyHint)),
      );
  };
  await draw();
  put(
    main,
    heading(T.projects.title, h("a", { class: "button main", href: "#/project/new" }, icon("plus"), T.projects.create)),
    list,
  );
  return follow(station, ["project.", "device.provisioned", "device.failed", "device.interrupted", "image."], () =>
    attempt(draw),
  );
}

function card(project, names, station, draw) {
  const path = `/projects/${project.id}/${project.active ? "deactivate" : "activate"}`;
  const turn = async () => {
    await attempt(() => api.post(path));
    await attempt(draw);
  };
  const counts = station.today.counts(project.id);
  const scripts = (project.scripts?.preinstall?.length ?? 0) + (project.scripts?.postinstall?.length ?? 0);
  const extras = [
    project.sizes && T.projects.bySize(project.sizes.length),
    project.firmware && T.projects.firmware,
    scripts && T.projects.scripts(scripts),
  ].filter(Boolean);
  return h(
    "li",
    { class: "card project", data: { active: String(project.active), project: project.id } },
    h(
      "header",
      {},
      h("h2", {}, h("a", { href: `#/project/${project.id}` }, project.name)),
      h(
        "span",
        { class: `badge ${project.active ? "good" : ""}` },
        project.active ? T.projects.active : T.projects.inactive,
      ),
    ),
    h(
      "p",
      { class: "what" },
      names.get(project.image) ?? T.projects.missing,
      extras.length ? h("span", { class: "hint" }, ` + ${extras.join(", ")}`) : null,
    ),
    h(
      "p",
      { class: "counts" },
      counts.judged
        ? [
            h("strong", {}, String(counts.passed)),
            ` ${T.line.passed.toLowerCase()} · `,
            h("strong", {}, String(counts.judged - counts.passed)),
            ` ${T.line.failed.toLowerCase()} · `,
            T.projects.yieldOf(format.percent(counts.passed, counts.judged)),
          ]
        : T.projects.noneToday,
    ),
    h(
      "footer",
      { class: "row" },
      button(project.active ? T.projects.deactivate : T.projects.activate, turn, {
        kind: project.active ? "" : "main",
      }),
      h(
        "a",
        { class: "button", href: `#/project/${project.id}`, "aria-label": `${T.projects.edit} ${project.name}` },
        T.projects.edit,
      ),
    ),
  );
}
