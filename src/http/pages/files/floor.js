// What is on the line now, folded from the journal and the progress of devices. It knows no DOM.

/** A device whose attempt is over is shown for so long, unless somebody clears it. */
const KEEP_MS = {
  passed: 30 * 60_000,
  failed: 4 * 3600_000,
  interrupted: 4 * 3600_000,
  aborted: 30 * 60_000,
  refused: 15 * 60_000,
  boot: 10 * 60_000,
};
/** Without a byte for so long a write stands still. */
export const STALLED_MS = 15_000;
const MOVES = ["write", "verify"];
const ENDS = {
  "device.provisioned": "passed",
  "device.failed": "failed",
  "device.interrupted": "interrupted",
  "device.aborted": "aborted",
};
const TELLS = [
  "device.discovered",
  "device.refused",
  "device.started",
  "device.step.started",
  "device.step.completed",
  ...Object.keys(ENDS),
];
export const ENDED = ["passed", "failed", "interrupted", "aborted"];
const KNOWN = ["serial", "serial8", "board", "circuit", "slot", "project", "session", "attempt"];

/** "io.bootline.device.started.v1" -> "device.started" */
export function nameOf(event) {
  return event.type.replace(/^io\.bootline\./, "").replace(/\.v\d+$/, "");
}

export class Floor extends EventTarget {
  /** MAC -> device */
  devices = new Map();
  #changed = new Set();
  #cleared = new Map(Object.entries(JSON.parse(sessionStorage.getItem("bootline.cleared") ?? "{}")));

  /** Sessions as the station lists them, the newest first. */
  learn(sessions) {
    const now = Date.now();
    for (const session of [...sessions].reverse()) {
      const state = session.outcome ?? "working";
      const endedAt = session.ended_at ? Date.parse(session.ended_at) : undefined;
      if (endedAt && now - endedAt > KEEP_MS[state]) continue;
      const done = session.steps.map(({ step }) => step);
      Object.assign(this.#device(session.mac), {
        state,
        done,
        endedAt,
        step: session.step ?? undefined,
        session: session.session,
        attempt: session.attempt,
        serial: session.serial ?? this.devices.get(session.mac)?.serial,
        project: session.project,
        board: session.facts.jumper,
        circuit: session.circuit ?? undefined,
        slot: session.slot ?? undefined,
        simulated: session.facts.simulated,
        startedAt: Date.parse(session.started_at),
        at: endedAt ?? Date.parse(session.started_at),
        steps: stepsOf(session),
        code: session.code,
        detail: session.detail,
        advice: session.advice,
        movedAt: now,
        stepSince: now,
        bytes: undefined,
      });
      this.#mark(session.mac);
    }
  }

  /** The serials and models of devices, which sessions do not show. */
  learnDevice({ mac, serial, serial8, model }) {
    const device = this.devices.get(mac);
    if (!device) return;
    Object.assign(device, {
      serial: serial ?? device.serial,
      serial8: serial8 ?? device.serial8,
      model: model ?? device.model,
    });
    this.#mark(mac);
  }

  #device(mac) {
    let device = this.devices.get(mac);
    if (!device) {
      device = { mac, state: "boot", steps: [], done: [], at: Date.now() };
      this.devices.set(mac, device);
    }
    return device;
  }

  #mark(mac) {
    if (this.#changed.size === 0) requestAnimationFrame(() => this.#tell());
    this.#changed.add(mac);
  }

  #tell() {
    const changed = [...this.#changed];
    this.#changed.clear();
    this.dispatchEvent(new CustomEvent("change", { detail: changed }));
  }

  isShown(device) {
    const cleared = this.#cleared.get(device.mac);
    return !(cleared && device.endedAt && device.endedAt <= cleared);
  }

  clearFinished() {
    for (const device of this.devices.values()) {
      if (!ENDED.includes(device.state) && device.state !== "refused") continue;
      this.#cleared.set(device.mac, Date.now());
      this.#forget(device.mac);
    }
    sessionStorage.setItem("bootline.cleared", JSON.stringify(Object.fromEntries(this.#cleared)));
  }

  #forget(mac) {
    this.devices.delete(mac);
    this.#mark(mac);
  }

  /** Once a second: what was long ago goes, what stands still is told. */
  tick(now = Date.now()) {
    for (const device of this.devices.values()) {
      const keep = KEEP_MS[device.state];
      if (keep && now - device.at > keep) this.#forget(device.mac);
      else if (device.state === "working") this.#mark(device.mac);
    }
  }

  /** Returns how a session has ended, if the event says so. */
  apply(event) {
    const name = nameOf(event);
    if (!name.startsWith("device.")) return undefined;
    const { data } = event;
    const at = Date.parse(event.time);
    // An order about a device that is not here shows nothing of the line.
    if (!TELLS.includes(name) && !this.devices.has(data.mac)) return undefined;
    const device = this.#device(data.mac);
    // Progress comes on a way of its own, and may be here first.
    const isAhead = device.session === data.session && device.bytes !== undefined;
    for (const field of KNOWN) if (data[field] !== undefined) device[field] = data[field];
    if (data.model) device.model = data.model;
    if (data.circuit) this.#leave(data.circuit, data.mac);
    const outcome = ENDS[name];
    if (outcome) this.#end(device, outcome, data, at);
    else if (name === "device.started") isAhead || this.#start(device, data, at);
    else if (name === "device.step.started")
      (isAhead && device.step === data.step) || this.#begin(device, data.step, at);
    else if (name === "device.step.completed") this.#complete(device, data.step, at);
    else if (name === "device.discovered") this.#discover(device, at);
    else if (name === "device.refused") this.#refuse(device, data, at);
    this.#mark(data.mac);
    return outcome && { outcome, device };
  }

  /** A cable has one end: whoever was there before and is done has been taken out. */
  #leave(circuit, mac) {
    for (const other of this.devices.values()) {
      const isDone = ENDED.includes(other.state) || other.state === "refused";
      if (other.mac !== mac && other.circuit === circuit && isDone) this.#forget(other.mac);
    }
  }

  #end(device, outcome, data, at) {
    Object.assign(device, {
      state: outcome,
      at,
      endedAt: at,
      code: data.code,
      detail: data.detail,
      advice: data.advice,
      retryable: data.retryable,
      failedStep: data.step,
      step: undefined,
      rate: undefined,
      simulated: data.simulated ?? device.simulated,
    });
  }

  #start(device, data, at) {
    Object.assign(device, {
      state: "working",
      at,
      startedAt: at,
      endedAt: undefined,
      step: undefined,
      stepSince: at,
      movedAt: at,
      done: [],
      bytes: undefined,
      total: data.plan.raw_size_bytes,
      percent: undefined,
      rate: undefined,
      steps: stepsOf(data.plan),
      code: undefined,
      detail: undefined,
      advice: undefined,
      failedStep: undefined,
      board: data.board ?? data.facts.jumper,
      simulated: data.facts.simulated,
    });
  }

  #begin(device, step, at) {
    Object.assign(device, {
      state: "working",
      step,
      at,
      stepSince: at,
      movedAt: at,
      bytes: undefined,
      percent: undefined,
      rate: undefined,
      sampledAt: undefined,
    });
    if (!device.steps.includes(step)) device.steps.push(step);
  }

  #complete(device, step, at) {
    if (!device.done.includes(step)) device.done.push(step);
    Object.assign(device, { step: undefined, at, movedAt: at, percent: undefined, rate: undefined });
  }

  /** A module that passed boots from the network once more: it stays what it is, until it is taken out. */
  #discover(device, at) {
    if (device.state === "passed") return;
    if (device.state === "working") return;
    Object.assign(device, { state: "boot", at, startedAt: at, endedAt: undefined });
  }

  #refuse(device, data, at) {
    if (device.state === "passed" || device.state === "working") return;
    Object.assign(device, {
      state: "refused",
      at,
      endedAt: at,
      code: data.code,
      detail: data.detail,
      advice: undefined,
      failedStep: undefined,
    });
  }

  /** Progress: only the newest of each device comes. */
  progress(reports, now = Date.now()) {
    for (const { mac, session, step, bytes, bytes_total: total, percent, attempt, at } of reports) {
      const device = this.#device(mac);
      // What is over already: this word was slower than the news.
      if (device.session === session && (ENDED.includes(device.state) || device.done.includes(step))) continue;
      const sampledAt = Date.parse(at);
      if (device.session !== session || device.step !== step) {
        Object.assign(device, {
          state: "working",
          session,
          attempt,
          step,
          stepSince: sampledAt,
          bytes: undefined,
          rate: undefined,
          sampledAt: undefined,
        });
        if (!device.steps.includes(step)) device.steps.push(step);
      }
      if (device.bytes !== undefined && bytes > device.bytes && sampledAt > device.sampledAt) {
        const fresh = ((bytes - device.bytes) * 1000) / (sampledAt - device.sampledAt);
        device.rate = device.rate === undefined ? fresh : device.rate * 0.7 + fresh * 0.3;
      }
      if (bytes !== device.bytes) {
        device.movedAt = now;
        device.sampledAt = sampledAt;
      }
      Object.assign(device, { bytes, total, percent, at: now });
      this.#mark(mac);
    }
  }
}

/** As a plan has them: those that are always there, and those that it asks for. */
function stepsOf({ firmware, scripts, data_file: dataFile }) {
  const steps = ["write", "verify"];
  if (scripts?.preinstall?.length) steps.unshift("preinstall");
  if (firmware) steps.unshift("firmware");
  if (scripts?.postinstall?.length || dataFile) steps.push("postinstall");
  return steps;
}

export function isStalled(device, now = Date.now()) {
  return device.state === "working" && MOVES.includes(device.step) && now - device.movedAt > STALLED_MS;
}

/** Seconds until the device is done, from how fast it is now; nothing where that is not known. */
export function secondsLeft(device) {
  if (!device.rate || !device.total || !MOVES.includes(device.step)) return undefined;
  const here = (device.total - device.bytes) / device.rate;
  const verify = device.step === "write" ? device.total / device.rate : 0;
  return here + verify;
}
