// The editor of a project. It saves over the revision that it began with, and over no other.

import { api } from "./api.js";
import { attempt, confirmDialog, openDialog, toast } from "./dialog.js";
import { button, h, put } from "./dom.js";
import { check, clearFaults, showFaults } from "./form.js";
import { projectForm } from "./projectform.js";
import { heading } from "./projects.js";
import { T } from "./text.js";

const FIELDS = [
  "name",
  "image",
  "storage",
  "again",
  "sizes",
  "firmware",
  "scripts",
  "data_file",
  "labels",
  "status_led",
  "boot",
];

export async function showProject(main, station, id) {
  const isNew = id === "new";
  const [{ images }, { firmware }, { scripts }, { labels }, found] = await Promise.all([
    api.get("/images"),
    api.get("/firmware"),
    api.get("/scripts"),
    api.get("/labels"),
    isNew ? { project: {} } : api.get(`/projects/${id}`),
  ]);
  const editor = new Editor(main, found.project, { images, firmware, scripts, labels });
  editor.draw();
  const leave = () => {};
  leave.isDirty = () => editor.isDirty();
  return leave;
}

class Editor {
  constructor(main, project, shelves) {
    this.main = main;
    this.project = project;
    this.shelves = shelves;
    this.isNew = project.id === undefined;
  }

  draw() {
    this.form = projectForm(this.project, this.shelves);
    this.faults = h("div", { class: "faults", role: "alert" });
    this.activeNow = check(T.project.activeNow, false);
    const save = h("button", { type: "submit", class: "button main" }, this.isNew ? T.project.create : T.project.save);
    const node = h(
      "form",
      { class: "editor", novalidate: true, on: { submit: (event) => this.#submit(event) } },
      this.faults,
      this.form.node,
      this.isNew ? this.activeNow.node : null,
      h(
        "footer",
        { class: "row sticky" },
        save,
        h("a", { class: "button", href: "#/projects" }, T.project.cancel),
        h("span", { class: "grow" }),
        this.isNew ? null : button(T.project.remove, () => this.#remove(), { kind: "danger" }),
      ),
    );
    this.node = node;
    const title = this.isNew ? T.project.new : T.project.edit(this.project.name);
    put(
      this.main,
      heading(
        title,
        this.isNew
          ? null
          : h("span", { class: "hint" }, `${this.project.id} · ${T.project.revision(this.project.revision)}`),
      ),
      node,
    );
    this.#began = JSON.stringify(this.form.read());
  }

  #began = "";

  isDirty() {
    return this.node.isConnected && JSON.stringify(this.form.read()) !== this.#began;
  }

  async #submit(event) {
    event.preventDefault();
    clearFaults(this.node);
    put(this.faults);
    await this.#send(this.form.read(), this.project.revision);
  }

  async #send(wanted, revision) {
    try {
      const answer = this.isNew
        ? await api.post("/projects", created(wanted, this.activeNow.box.checked))
        : await api.patch(`/projects/${this.project.id}`, wanted, { revision });
      toast(T.project.saved);
      this.#began = JSON.stringify(this.form.read());
      if (this.isNew) location.hash = `#/project/${answer.project.id}`;
      this.project = answer.project;
      if (!this.isNew) this.draw();
    } catch (problem) {
      if (problem.status === 412) await this.#conflict(wanted);
      else this.#fault(problem);
    }
  }

  #fault(problem) {
    const left = showFaults(this.node, problem);
    put(
      this.faults,
      h("p", {}, h("strong", {}, T.project.fix)),
      left.map((text) => h("p", {}, text)),
    );
    if (left.length) this.faults.scrollIntoView({ block: "nearest" });
  }

  /** Somebody was faster: what differs is shown, and whoever sits here decides. */
  async #conflict(wanted) {
    const { project: theirs } = await api.get(`/projects/${this.project.id}`);
    const now = projectForm(theirs, this.shelves).read();
    const text = (value) =>
      value === null || value === "" ? T.project.nothing : typeof value === "string" ? value : JSON.stringify(value);
    const rows = FIELDS.filter((name) => JSON.stringify(now[name]) !== JSON.stringify(wanted[name]));
    const table = h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          [T.project.field, T.project.mine, T.project.theirs].map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((name) =>
          h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, text(wanted[name])), h("td", {}, text(now[name]))),
        ),
      ),
    );
    const take = () => {
      this.project = theirs;
      dialog.close();
      this.draw();
    };
    const keep = () => {
      dialog.close();
      this.#send(wanted, theirs.revision);
    };
    const dialog = openDialog(
      T.project.conflict,
      [
        h("p", {}, T.project.conflictText(this.project.revision, theirs.revision)),
        h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": T.project.conflict }, table),
      ],
      {
        actions: [
          button(T.project.takeTheirs, take, { kind: "main" }),
          button(T.project.keepMine, keep, { kind: "danger" }),
        ],
      },
    );
  }

  async #remove() {
    if (!(await confirmDialog(T.project.removeSure(this.project.name), T.project.remove))) return;
    if (await attempt(() => api.delete(`/projects/${this.project.id}`, { revision: this.project.revision }))) {
      this.#began = JSON.stringify(this.form.read());
      location.hash = "#/projects";
    }
  }
}

/** A new project says nothing of what it does not have. */
function created(wanted, active) {
  return Object.fromEntries(Object.entries({ ...wanted, active }).filter(([, value]) => value !== null));
}
