// An upload that goes on where it broke off: tus 1.0 in parts of a few megabytes. Where it goes on is remembered by the
// browser, so the same file dropped again after the page was closed is not sent twice.

import { Problem } from "./api.js";

const PART = 8 << 20;
const PAUSES_MS = [500, 1000, 2000, 4000, 8000, 15_000];
const HEADERS = { "tus-resumable": "1.0.0" };

function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

export class Upload extends EventTarget {
  sent = 0;
  /** "uploading", "paused", "broken", "looking", "ready", "failed", "canceled" */
  state = "uploading";
  detail = "";
  #request;
  #place;

  constructor(file, sha256) {
    super();
    this.file = file;
    this.sha256 = sha256;
    this.#key = `bootline.upload.${file.name}.${file.size}.${file.lastModified}`;
    this.startedAt = Date.now();
  }

  #key;

  #become(state, detail = "") {
    this.state = state;
    this.detail = detail;
    this.dispatchEvent(new Event("change"));
  }

  get isOver() {
    return ["ready", "failed", "canceled"].includes(this.state);
  }

  async run() {
    this.#become("uploading");
    for (let tries = 0; ;) {
      const before = this.sent;
      try {
        this.#place ??= await this.#begin();
        while (this.state === "uploading" && this.sent < this.file.size) await this.#part();
        if (this.state !== "uploading") return;
        localStorage.removeItem(this.#key);
        await this.#look();
        return;
      } catch (problem) {
        if (this.state === "paused" || this.state === "canceled") return;
        if (problem.status >= 400 && problem.status < 500 && problem.status !== 409 && !problem.retryable) {
          localStorage.removeItem(this.#key);
          this.#become("failed", problem.message);
          return;
        }
        tries = this.sent > before ? 0 : tries + 1;
        this.#become("broken", problem.message);
        await new Promise((wake) => setTimeout(wake, PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)]));
        if (this.state !== "broken") return;
        this.state = "uploading";
        await this.#stand().catch(() => {});
      }
    }
  }

  pause() {
    this.#become("paused");
    this.#request?.abort();
  }

  async giveUp() {
    this.#become("canceled");
    this.#request?.abort();
    localStorage.removeItem(this.#key);
    if (this.#place) await fetch(this.#place, { method: "DELETE", headers: HEADERS }).catch(() => {});
  }

  /** A place of its own at the station, or the one that was left. */
  async #begin() {
    const known = localStorage.getItem(this.#key);
    if (known) {
      this.#place = known;
      if (await this.#stand()) return known;
      this.#place = undefined;
    }
    const sum = this.sha256 ? `,sha256 ${base64(this.sha256)}` : "";
    const headers = {
      ...HEADERS,
      "upload-length": String(this.file.size),
      "upload-metadata": `name ${base64(this.file.name)}${sum}`,
    };
    const response = await fetch("/api/v1/uploads", { method: "POST", headers });
    if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
    const place = response.headers.get("location");
    localStorage.setItem(this.#key, place);
    this.sent = 0;
    return place;
  }

  /** How much of it is there already; false where nobody knows of it. */
  async #stand() {
    const response = await fetch(this.#place, { method: "HEAD", headers: HEADERS, cache: "no-store" });
    if (response.status === 404 || response.status === 410) {
      this.#place = undefined;
      localStorage.removeItem(this.#key);
      return false;
    }
    this.sent = Number(response.headers.get("upload-offset") ?? this.sent);
    return response.ok;
  }

  #part() {
    const from = this.sent;
    const part = this.file.slice(from, from + PART);
    const request = new XMLHttpRequest();
    this.#request = request;
    return new Promise((resolve, reject) => {
      request.open("PATCH", this.#place);
      for (const [name, value] of Object.entries({
        ...HEADERS,
        "upload-offset": String(from),
        "content-type": "application/offset+octet-stream",
      }))
        request.setRequestHeader(name, value);
      request.upload.onprogress = ({ loaded }) => {
        this.sent = from + loaded;
        this.dispatchEvent(new Event("change"));
      };
      request.onload = () => {
        if (request.status === 204) {
          this.sent = Number(request.getResponseHeader("upload-offset"));
          this.dispatchEvent(new Event("change"));
          resolve();
          return;
        }
        this.sent = from;
        reject(new Problem(request.status, parsed(request.responseText)));
      };
      request.onerror = () => reject(new Problem(0, { detail: "The station does not answer." }));
      request.onabort = () => reject(new Problem(0, { detail: "stopped" }));
      request.send(part);
    });
  }

  /** The file is there; whether it is an image is found out by reading it through. */
  async #look() {
    const id = this.#place.split("/").at(-1);
    for (;;) {
      const response = await fetch(`/api/v1/jobs/${id}`);
      if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
      const { job } = await response.json();
      if (job.state === "succeeded") return this.#become("ready");
      if (job.state === "failed") return this.#become("failed", job.error?.detail ?? "");
      if (job.state === "canceled") return this.#become("canceled");
      this.looked = job.bytes_total ? job.bytes_done / job.bytes_total : undefined;
      this.#become("looking");
      await new Promise((wake) => setTimeout(wake, 500));
    }
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
