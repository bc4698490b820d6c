// Which device gets which project: the rules in their order, and a place to try them before they hold.

import { api } from "./api.js";
import { attempt, confirmDialog, toast } from "./dialog.js";
import { button, h, put, signButton, write } from "./dom.js";
import { clearFaults, field, input, showFaults } from "./form.js";
import { parseBytes } from "./format.js";
import { follow, heading } from "./projects.js";
import { RuleEditor } from "./rule.js";
import { T } from "./text.js";

export async function showRules(main, station) {
  const page = new Rules(main);
  await page.load();
  const stop = follow(station, ["rules.", "project."], () => page.isDirty() || attempt(() => page.load()));
  const leave = () => stop();
  leave.isDirty = () => page.isDirty();
  return leave;
}

class Rules {
  #editors = [];
  #began = "[]";
  #revision = 0;

  constructor(main) {
    this.main = main;
    this.list = h("ol", { class: "cards rules" });
    this.faults = h("div", { class: "faults", role: "alert" });
    this.state = h("span", { class: "hint", role: "status" });
    this.result = h("div", { class: "result", role: "status" });
  }

  async load() {
    const [{ rules, revision }, { projects }] = await Promise.all([api.get("/rules"), api.get("/projects")]);
    this.projects = projects;
    this.#revision = revision;
    this.#editors = [];
    rules.forEach((rule) => this.#add(rule));
    this.#began = JSON.stringify(this.read());
    this.#draw();
    this.#place();
  }

  read() {
    return this.#editors.map((editor) => editor.read());
  }

  isDirty() {
    return this.main.contains(this.list) && JSON.stringify(this.read()) !== this.#began;
  }

  /** Once: what somebody has typed into the place to try stays there. */
  #draw() {
    if (this.editor) return;
    const add = button(T.rules.add, () => this.#addNew(), { sign: "plus" });
    this.editor = h(
      "form",
      { class: "editor", novalidate: true, on: { submit: (event) => this.#save(event) } },
      this.faults,
      this.list,
      add,
      h(
        "footer",
        { class: "row sticky" },
        h("button", { type: "submit", class: "button main" }, T.rules.save),
        button(T.rules.reset, () => attempt(() => this.load())),
        this.state,
      ),
    );
    this.trial = trial((asked) => this.#test(asked), this.result);
    put(
      this.main,
      heading(T.rules.title),
      h("p", { class: "lead" }, T.rules.lead),
      h("div", { class: "beside" }, this.editor, this.trial),
    );
  }

  #add(rule) {
    const find = () => this.#editors.indexOf(editor);
    const tools = h(
      "span",
      { class: "row" },
      signButton("up", T.rules.up, () => this.#move(find(), -1)),
      signButton("down", T.rules.down, () => this.#move(find(), 1)),
      signButton("close", T.rules.remove, () => this.#remove(find())),
    );
    const editor = new RuleEditor(rule, this.projects, () => this.#changed(), tools);
    this.#editors.push(editor);
  }

  #addNew() {
    if (!this.projects.length) return toast(T.projects.empty, "bad");
    this.#add({ project: this.projects[0].id, when: {} });
    this.#order();
    return this.#editors.at(-1).project.focus();
  }

  #move(at, by) {
    if (at + by < 0 || at + by >= this.#editors.length) return;
    this.#editors.splice(at + by, 0, ...this.#editors.splice(at, 1));
    this.#order();
    this.#editors[at + by].node.querySelector(".sign").focus();
  }

  #remove(at) {
    this.#editors.splice(at, 1);
    this.#order();
  }

  #order() {
    this.#place();
    this.#changed();
  }

  #place() {
    this.#editors.forEach((editor, at) => editor.place(at));
    put(
      this.list,
      this.#editors.length ? this.#editors.map((editor) => editor.node) : h("li", { class: "empty" }, T.rules.empty),
    );
    write(this.state, this.isDirty() ? T.rules.unsaved : "");
  }

  #changed() {
    this.#editors.forEach((editor) => editor.show());
    put(this.result);
    write(this.state, this.isDirty() ? T.rules.unsaved : "");
  }

  async #save(event) {
    event.preventDefault();
    clearFaults(this.editor);
    put(this.faults);
    try {
      await api.put("/rules", { rules: this.read() }, { revision: this.#revision });
      toast(T.rules.saved);
      await this.load();
    } catch (problem) {
      if (problem.status === 412) {
        if (await confirmDialog(T.rules.conflict, T.rules.load, "main")) await attempt(() => this.load());
      } else this.#fault(problem);
    }
  }

  #fault(problem) {
    put(
      this.faults,
      showFaults(this.editor, problem).map((text) => h("p", {}, text)),
    );
  }

  async #test(asked) {
    clearFaults(this.main);
    put(this.faults);
    try {
      const answer = await api.post("/rules/test", { ...asked, rules: this.read() });
      this.#editors.forEach((editor, at) => editor.show(answer.rules[at]));
      put(
        this.result,
        h("p", { class: "choice", data: { by: answer.choice.by } }, said(answer.choice)),
        answer.refusal ? h("p", { class: "hint" }, T.rules.held(answer.refusal.detail)) : null,
      );
    } catch (problem) {
      const left = problem.errors.some(({ pointer }) => pointer.startsWith("/params/rules"))
        ? showFaults(this.editor, problem)
        : showFaults(this.trial, problem);
      put(
        this.result,
        left.map((text) => h("p", { class: "fault" }, text)),
      );
    }
  }
}

function said(choice) {
  const { by } = choice;
  if (by === "rule") return T.rules.by.rule((choice.rule ?? choice.index ?? 0) + 1, choice.project);
  if (by === "undecided") return T.rules.by.undecided(choice.projects.join(", "));
  if (by === "nothing") return T.rules.by.nothing(choice.detail);
  return T.rules.by[by](choice.project);
}

function trial(test, result) {
  const controls = {
    device: input("", { required: true, placeholder: "dc:a6:32:01:02:03" }),
    serial: input(""),
    revision: input("", { placeholder: "c03140" }),
    storage_bytes: input("", { placeholder: "8 GB" }),
    jumper: input("", { placeholder: "010" }),
    circuit: input(""),
  };
  const labels = {
    device: T.device.mac,
    serial: T.rules.field.serial,
    revision: T.rules.field.revision,
    storage_bytes: T.rules.storage,
    jumper: T.rules.field.jumper,
    circuit: T.rules.field.circuit,
  };
  const ask = (event) => {
    event.preventDefault();
    const given = Object.entries(controls)
      .map(([name, control]) => [name, control.value.trim()])
      .filter(([, value]) => value);
    const asked = Object.fromEntries(given);
    if (asked.storage_bytes && !Number.isNaN(parseBytes(asked.storage_bytes)))
      asked.storage_bytes = parseBytes(asked.storage_bytes);
    test(asked);
  };
  return h(
    "form",
    { class: "card trial", novalidate: true, on: { submit: ask } },
    h("h2", {}, T.rules.try),
    h("p", { class: "hint" }, T.rules.tryLead),
    Object.entries(controls).map(([name, control]) => field(labels[name], control, { pointer: `/${name}` })),
    h("button", { type: "submit", class: "button main" }, T.rules.test),
    result,
  );
}
