// The built agent in a temporary folder, on free ports of loopback.

import { spawn } from "node:child_process";
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const BINARY = process.env.BOOTLINE ?? path.join(ROOT, "target/debug/bootline");
/** Screenshots lie here after a run. */
export const ARTEFACTS = path.join(ROOT, "target/page");

const keptAlive = new http.Agent({ keepAlive: true, maxSockets: 64 });

/** One call; the answer's status, headers and body. */
export function call(port, method, target, { headers = {}, body = "" } = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request(
      {
        host: "127.0.0.1",
        port,
        method,
        path: target,
        headers: { "content-length": Buffer.byteLength(body), ...headers },
        agent: keptAlive,
      },
      (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString() }),
        );
        response.on("error", reject);
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}

export class Agent {
  /** `more` is added to its configuration. */
  static async start(more = "") {
    const agent = new Agent();
    agent.more = more;
    agent.folder = mkdtempSync(path.join(tmpdir(), "bootline-page-"));
    mkdirSync(path.join(agent.folder, "bootfiles"));
    await agent.#run([0, 0, 0]);
    return agent;
  }

  async #run([operators, devices, tftp]) {
    const config = path.join(this.folder, "bootline.yml");
    writeFileSync(
      config,
      `station: {id: st-page}
network:
  interface: lo
  address: 127.0.0.1/8
  dhcp: {mode: off}
  tftp: {listen: '127.0.0.1:${tftp}'}
http: {operators: '127.0.0.1:${operators}', devices: '127.0.0.1:${devices}'}
sessions: {max_attempts: 50}
slots: [{name: bench-7, jumper: '010'}]
printers: [{name: zebra, command: [cp, '{file}', '${this.folder}/label']}, {name: away, command: ['false']}]
bus: {mqtt: off}
data: ${this.folder}/data
bootfiles: ${this.folder}/bootfiles
${this.more}`,
    );
    const { RUST_LOG: _, ...env } = process.env;
    this.child = spawn(BINARY, ["run", "--config", config], { stdio: ["ignore", "inherit", "pipe"], env });
    const field = (line, name) => Number(new RegExp(`${name}=[0-9.]+:(\\d+)`).exec(line)?.[1]);
    await new Promise((resolve, reject) => {
      this.child.once("exit", (code) => reject(new Error(`the agent ended with ${code}`)));
      readline.createInterface({ input: this.child.stderr }).on("line", (line) => {
        if (process.env.TEST_LOG) console.log(line);
        if (line.includes(" bound "))
          [this.operators, this.devices, this.tftp] = ["operators", "devices", "tftp"].map((name) => field(line, name));
        if (line.endsWith(" ready")) resolve();
      });
    });
    this.url = `http://127.0.0.1:${this.operators}/`;
  }

  /** As when the power goes. */
  async kill() {
    const gone = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.removeAllListeners("exit");
    this.child.once("exit", () => {});
    const over = new Promise((resolve) => this.child.once("close", resolve));
    this.child.kill("SIGKILL");
    await Promise.race([gone, over]);
  }

  async restart() {
    await this.#run([this.operators, this.devices, this.tftp]);
  }

  async stop() {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async api(method, target, body) {
    const answer = await call(this.operators, method, `/api/v1${target}`, {
      body: body === undefined ? "" : JSON.stringify(body),
    });
    if (answer.status >= 400) throw new Error(`${method} ${target}: ${answer.status} ${answer.text}`);
    return answer.text ? JSON.parse(answer.text) : {};
  }

  async image(name, bytes) {
    const answer = await call(this.operators, "POST", `/api/v1/images?name=${encodeURIComponent(name)}`, {
      body: bytes,
    });
    if (answer.status !== 201) throw new Error(answer.text);
    return JSON.parse(answer.text).image.id;
  }
}
