// Calls of /api/v1. What goes wrong is a Problem: the code and the words of the station, never our own guess.

const ROOT = "/api/v1";

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? `HTTP ${status}`);
    this.status = status;
    this.code = body.code ?? "";
    this.retryable = body.retryable ?? false;
    /** [{pointer, detail}] */
    this.errors = body.errors ?? [];
  }
}

let askForToken = () => Promise.resolve(false);

/** Called when the station wants to know who is there; true means that it is worth another try. */
export function onUnauthorised(ask) {
  askForToken = ask;
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, body);
}

/** `as: "text"` is for the few answers that are no JSON. */
async function send(method, path, { body, raw, headers = {}, revision, signal, as } = {}) {
  const all = { accept: as === "text" ? "text/plain, application/json" : "application/json", ...headers };
  if (body !== undefined) all["content-type"] = "application/json";
  if (revision !== undefined) all["if-match"] = `"${revision}"`;
  try {
    const sent = raw ?? (body === undefined ? undefined : JSON.stringify(body));
    return await fetch(ROOT + path, { method, headers: all, body: sent, signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "unreachable", detail: "The station does not answer.", retryable: true });
  }
}

/** The answer's JSON. */
export async function call(method, path, options = {}) {
  let response = await send(method, path, options);
  if ((response.status === 401 || response.status === 403) && !options.quiet) {
    const problem = await problemOf(response);
    if (!(await askForToken(problem))) throw problem;
    response = await send(method, path, options);
  }
  if (!response.ok) throw await problemOf(response);
  if (options.as === "text") return response.text();
  return response.status === 204 ? {} : response.json();
}

export const api = {
  get: (path, options) => call("GET", path, options),
  post: (path, body = {}, options) => call("POST", path, { body, ...options }),
  put: (path, body, options) => call("PUT", path, { body, ...options }),
  patch: (path, body, options) => call("PATCH", path, { body, ...options }),
  delete: (path, options) => call("DELETE", path, options),
};

/** {after: 1, x: undefined} -> "?after=1" */
export function query(values) {
  const known = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return known.length ? `?${new URLSearchParams(known)}` : "";
}

export function socketUrl(path) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}${ROOT}${path}`;
}
