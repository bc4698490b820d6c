// A device as far as HTTP sees it: asks for its script, says how far it is, reports its steps.

import { call } from "./agent.js";

export class Board {
  constructor(agent, n, { jumper = "", sectors = 30_535_680, simulated = true } = {}) {
    this.agent = agent;
    this.mac = `0200${n.toString(16).padStart(8, "0")}`;
    this.serial = `10000000${(0xa1b20000 + n).toString(16)}`;
    this.query = `serial=${this.serial}&model=Raspberry+Pi+Compute+Module+4+Rev+1.1&storagesize=${sectors}&mac=${this.mac}&inversejumper=${jumper}&memorysize=3884340&temp=42.0'C&cid=15010038474e4434&csd=&bootmode=2${simulated ? "&simulated=1" : ""}`;
  }

  /** The script opens with lines NAME='value'. */
  async begin() {
    const { text } = await call(this.agent.devices, "GET", `/scriptexecute?${this.query.replace("'", "%27")}`);
    this.orders = Object.fromEntries(
      [...text.matchAll(/^([A-Z0-9_]+)='(.*)'$/gm)].map(([, name, value]) => [name, value]),
    );
    this.size = Number(this.orders.RAW_SIZE);
    return this.orders.SESSION !== undefined;
  }

  async #tell(name, form) {
    const headers = {
      authorization: `Bearer ${this.orders.TOKEN}`,
      "content-type": "application/x-www-form-urlencoded",
    };
    return call(this.agent.devices, "POST", new URL(this.orders[name]).pathname, {
      headers,
      body: new URLSearchParams(form).toString(),
    });
  }

  async report(form) {
    const answer = await this.#tell("REPORT_URL", form);
    if (answer.status !== 200) throw new Error(`${JSON.stringify(form)}: ${answer.status} ${answer.text}`);
    return answer;
  }

  async progress(step, part) {
    const answer = await this.#tell("PROGRESS_URL", { step, bytes: String(Math.round(this.size * part)) });
    return JSON.parse(answer.text);
  }

  async output(script, text) {
    const headers = { authorization: `Bearer ${this.orders.TOKEN}`, "content-type": "text/plain" };
    return call(this.agent.devices, "POST", `${new URL(this.orders.SCRIPTS_URL).pathname}/${script}/output`, {
      headers,
      body: text,
    });
  }

  write() {
    return this.report({ step: "write", state: "started" });
  }

  async verify() {
    await this.report({ step: "write", state: "completed", bytes: String(this.size) });
    await this.report({ step: "verify", state: "started" });
  }

  async read() {
    await this.report({
      step: "verify",
      state: "completed",
      bytes: String(this.size),
      sha256: this.orders.RAW_SHA256,
      cache: "dropped",
    });
  }

  finish() {
    return this.report({ state: "finished" });
  }

  fail(code, detail, step = "write") {
    return this.report({ step, state: "failed", code, detail });
  }

  async pass() {
    await this.begin();
    await this.write();
    await this.verify();
    await this.read();
    await this.finish();
  }
}
