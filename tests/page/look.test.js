// How it looks: narrow and wide, dark and light, every state and every view; and what axe says of each.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";

import { Agent } from "./agent.js";
import { Board } from "./board.js";
import { launch, open, seriousFaults, shoot } from "./browser.js";

const VIEWS = [
  "line",
  "slots",
  "projects",
  "project/gateway",
  "rules",
  "history",
  "images",
  "firmware",
  "scripts",
  "labels",
  "station",
];

let agent;
let browser;
let sessionId;
let work;
/** [board, step, how much of it is done] */
const running = [];

before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
  const [gateway, panel] = [
    await agent.image("gateway-2.4.img", Buffer.concat([table(), randomBytes(24 << 20)])),
    await agent.image("panel-1.9.img", randomBytes(6 << 20)),
  ];
  await agent.api("POST", "/scripts", { name: "Burn in", text: "#!/bin/sh\nexit 0\n", on_failure: "warn" });
  await agent.api("POST", "/labels", { name: "Type plate", text: "^XA^FD{{ device.serial }}^FS^XZ\n" });
  await agent.api("POST", "/labels", { name: "Box", text: "{{ device.mac | upper | groups }}\n" });
  await agent.api("POST", "/projects", {
    name: "Gateway",
    image: gateway,
    sizes: [{ up_to_bytes: 8e9, image: panel }],
    active: true,
    status_led: { gpio: 21 },
    boot: { config_txt: "dtoverlay=dwc2" },
    labels: [
      { label: "type-plate", on: "preinstall", printer: "zebra" },
      { label: "box", on: "preinstall", printer: "away" },
    ],
  });
  await agent.api("POST", "/projects", { name: 'Panel 7"', image: panel, scripts: { preinstall: ["burn-in"] } });
  await agent.api("PUT", "/rules", {
    rules: [{ project: "panel-7", name: "the blue carrier", when: { jumper: ["0x1"], storage_bytes: { min: 16e9 } } }],
  });
  await line();
});

after(async () => {
  clearInterval(work);
  await browser?.close();
  await agent?.stop();
});

/** An MBR with a boot partition and a system, as images for modules have. */
function table() {
  const sector = Buffer.alloc(512);
  const entry = (at, kind, start, size) => {
    sector[at + 4] = kind;
    sector.writeUInt32LE(start, at + 8);
    sector.writeUInt32LE(size, at + 12);
  };
  entry(446, 0x0c, 2048, 12_000);
  entry(462, 0x83, 16_384, 30_000);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

async function board(n, options) {
  const one = new Board(agent, n, { simulated: false, ...options });
  await one.begin();
  return one;
}

/** A device in every state that the line knows. */
async function line() {
  const jumper = (n) => ["111", "110", "100", "010"][n % 4];
  for (let n = 1; n <= 4; n += 1) await new Board(agent, n, { jumper: jumper(n), simulated: false }).pass();
  for (let n = 5; n <= 9; n += 1) {
    const one = await board(n, { jumper: jumper(n) });
    await one.write();
    running.push([one, "write", n * 0.07]);
  }
  for (let n = 10; n <= 11; n += 1) {
    const one = await board(n, { jumper: jumper(n) });
    await one.write();
    await one.verify();
    running.push([one, "verify", n * 0.05]);
  }
  const failed = await board(12, { jumper: "111" });
  await failed.write();
  await failed.verify();
  await failed.fail("verify.mismatch", "the medium reads something else", "verify");
  sessionId = failed.orders.SESSION;
  await board(13, { jumper: "110" });
  const small = new Board(agent, 14, { sectors: 1000 });
  await small.begin();
  const aborted = await board(15);
  await aborted.write();
  await agent.api("POST", `/devices/${aborted.mac}/abort`);
  await (await board(16)).write();
  const again = await board(16);
  await again.write();
  running.push([again, "write", 0.05]);
  work = setInterval(go, 400);
}

/** They go on a little, so that the page has something to follow. */
function go() {
  for (const one of running) {
    // Ever slower: however long the tests take, nobody is done.
    one[2] += (1 - one[2]) * 0.005;
    one[0].progress(one[1], one[2]).catch(() => {});
  }
}

async function moving(page) {
  await page.locator(".tile-note", { hasText: "left" }).nth(5).waitFor();
}

test("each view reads well in light and dark, and axe finds nothing serious", async () => {
  const faults = [];
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(browser, agent, "#/line", { colorScheme });
    await moving(page);
    for (const view of [...VIEWS, `session/${sessionId}`]) {
      await page.evaluate((hash) => (location.hash = hash), `#/${view}`);
      await page.locator(`main[data-view="${view.split("/")[0]}"] :is(h1)`).waitFor({ state: "attached" });
      const found = await seriousFaults(page);
      faults.push(...found.map((fault) => `${colorScheme} ${view}: ${fault}`));
      await shoot(page, `${view.split("/")[0]}-${colorScheme}`, { fullPage: true });
    }
    // A station without tokens has no /session: the page asks and goes on.
    assert.deepEqual(
      page.complaints.filter((text) => !text.includes("status of 404")),
      [],
    );
    await page.context().close();
  }
  assert.deepEqual(faults, []);
});

test("nothing is cut off at 320 pixels", async () => {
  const page = await open(browser, agent, "#/line", { viewport: { width: 320, height: 640 } });
  await moving(page);
  const wide = [];
  for (const view of [...VIEWS, `session/${sessionId}`]) {
    await page.evaluate((hash) => (location.hash = hash), `#/${view}`);
    await page.locator(`main[data-view="${view.split("/")[0]}"] h1`).waitFor({ state: "attached" });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    if (width > 320) wide.push(`${view}: ${width}`);
    await shoot(page, `${view.split("/")[0]}-320`, { fullPage: true });
  }
  assert.deepEqual(wide, []);
  await page.getByRole("button", { name: "Menu" }).click();
  await page.getByRole("link", { name: "Images" }).click();
  await page.getByRole("heading", { name: "Images" }).waitFor();
  await page.context().close();
});

test("on the wall the tiles are large and nothing else is there", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(browser, agent, "#/line", {
      viewport: { width: 1920, height: 1080 },
      search: "?wall",
      colorScheme,
    });
    await moving(page);
    assert.equal(await page.locator("#top").isVisible(), false);
    const size = await page
      .locator(".tile[data-state=passed] .tile-figure")
      .first()
      .evaluate((node) => parseFloat(getComputedStyle(node).fontSize));
    assert.ok(size >= 40, `${size} px from three metres`);
    // Nobody scrolls a wall: what somebody must go to comes first.
    const states = await page.locator(".tile").evaluateAll((tiles) => tiles.map((one) => one.dataset.state));
    const calm = states.findIndex((one) => one === "passed" || one === "working");
    assert.ok(
      calm > 0 && states.slice(0, calm).includes("failed") && !states.slice(calm).includes("failed"),
      states.join(),
    );
    await page.waitForFunction(
      () => document.querySelector("[data-state=failed]").getBoundingClientRect().bottom <= innerHeight,
    );
    assert.deepEqual(await seriousFaults(page), []);
    await shoot(page, `wall-${colorScheme}`);
    await page.context().close();
  }
});

test("the device, a dialog and a conflict look as they should", async () => {
  const page = await open(browser, agent);
  await moving(page);
  await page.locator(".tile[data-state=failed] button").click();
  await page.getByRole("dialog").getByText("Attempts").first().waitFor();
  assert.deepEqual(await seriousFaults(page), []);
  await shoot(page, "device");
  await page.context().close();
});

test("the boot that led to an attempt is drawn lane by lane", async () => {
  const page = await open(browser, agent);
  // This station serves no DHCP: the real answer, with the boot of a module before it.
  await page.route(`**/api/v1/sessions/${sessionId}`, async (route) => {
    const answer = await (await route.fetch()).json();
    const began = Date.parse(answer.session.started_at);
    const at = (seconds) => new Date(began + seconds * 1000).toISOString();
    const file = (name, seconds, result, bytes) => ({ at: at(seconds), what: "file", name, bytes, result });
    answer.session.ended_at = at(48);
    answer.timeline = [
      { at: at(-21), what: "boot", name: "dhcp", bytes: 0, result: "" },
      { at: at(-21), what: "dhcp", name: "discover", bytes: 0, result: "offer 192.168.5.17" },
      { at: at(-20.8), what: "dhcp", name: "request", bytes: 0, result: "ack 192.168.5.17" },
      { at: at(-19), what: "console", name: "RPi: BOOTLOADER release VERSION:1234abcd", bytes: 0, result: "" },
      file("a1b2000c/start4.elf", -18, "missing", 0),
      file("start4.elf", -16, "sent", 2_267_456),
      file("config.txt", -15, "sent", 812),
      file("kernel8.img", -11, "sent", 9_123_456),
      file("scriptexecute.img", -7, "aborted", 1_000_000),
      file("scriptexecute.img", -5, "sent", 24_000_000),
      { at: at(-1.5), what: "dhcp", name: "discover", bytes: 0, result: "offer 192.168.5.17" },
      ...answer.timeline,
    ];
    await route.fulfill({ json: answer });
  });
  await page.evaluate((hash) => (location.hash = hash), `#/session/${sessionId}`);
  await page.locator("svg.timeline .mark.file.aborted").waitFor();
  const lanes = await page.locator("svg.timeline .lane-text").allTextContents();
  assert.deepEqual(lanes.slice(0, 6), ["Boot", "DHCP", "Files", "Bootloader", "Script", "Steps"]);
  const [first, last] = await page
    .locator("svg.timeline .mark")
    .evaluateAll((marks) => marks.map((mark) => mark.getBoundingClientRect().x))
    .then((xs) => [xs[0], xs.at(-1)]);
  assert.ok(last > first, "time runs to the right");
  await page.getByText("moments as a list").click();
  await page.getByRole("cell", { name: "kernel8.img" }).waitFor();
  assert.deepEqual(await seriousFaults(page), []);
  await shoot(page, "timeline");
  await page.context().close();
});

test("buses tell their state and what waits for them", async () => {
  const page = await open(browser, agent);
  await page.route("**/api/v1/station", async (route) => {
    const info = await (await route.fetch()).json();
    const since = new Date().toISOString();
    info.sinks = [
      { name: "mqtt", enabled: true, state: "up", since, cursor: 40, backlog: 0, dead_letters: 0 },
      {
        name: "nats",
        enabled: true,
        state: "down",
        since,
        cursor: 2,
        backlog: 38,
        dead_letters: 1,
        reason: "connection refused",
      },
    ];
    await route.fulfill({ json: info });
  });
  await page.evaluate(() => (location.hash = "#/station"));
  await page.locator(".sink", { hasText: "mqtt" }).getByText("all delivered").waitFor();
  const nats = page.locator(".sink[data-state=down]");
  for (const text of ["not connected", "38 events wait", "connection refused", "1 event was refused for good"])
    await nats.getByText(text).waitFor();
  assert.deepEqual(await seriousFaults(page), []);
  await shoot(page, "bus");
  await page.context().close();
});

test("a station that wants a token asks for it once, and the page goes on", async () => {
  const context = await browser.newContext({ reducedMotion: "reduce" });
  const page = await context.newPage();
  // This station lets its own machine in: one that does not answers so until the login.
  let isIn = false;
  await page.route("**/api/v1/**", (route) => {
    const request = route.request();
    if (request.url().endsWith("/session") && request.method() === "POST") {
      isIn = JSON.parse(request.postData()).token === "right";
      return isIn
        ? route.fulfill({ status: 201, json: { role: "operator", name: "line-1" } })
        : route.fulfill({ status: 401, json: { code: "bad_token", detail: "not a token of this station" } });
    }
    if (request.url().endsWith("/session"))
      return isIn
        ? route.fulfill({ json: { role: "operator", name: "line-1" } })
        : route.fulfill({ status: 401, json: { code: "unauthorized", detail: "a token is needed" } });
    return isIn
      ? route.continue()
      : route.fulfill({ status: 401, json: { code: "unauthorized", detail: "a token is needed" } });
  });
  await page.goto(agent.url);
  const dialog = page.getByRole("dialog", { name: "Who are you?" });
  await dialog.getByLabel("Token").fill("wrong");
  await dialog.getByRole("button", { name: "Log in" }).click();
  await dialog.getByText("This token is not known.").waitFor();
  assert.deepEqual(await seriousFaults(page), []);
  await dialog.getByLabel("Token").fill("right");
  await page.keyboard.press("Enter");
  await page.locator(".connection[data-state=live]").waitFor();
  assert.equal(await page.locator("dialog").count(), 0);
  await page.evaluate(() => (location.hash = "#/station"));
  await page.getByText("line-1").waitFor();
  await context.close();
});

test("every state has its own sign and its own word, whatever its colour", async () => {
  const page = await open(browser, agent);
  await moving(page);
  const seen = await page
    .locator(".tile")
    .evaluateAll((tiles) =>
      tiles.map((tile) => [
        tile.dataset.state,
        tile.querySelector("use").getAttribute("href"),
        tile.querySelector(".tile-word").textContent,
      ]),
    );
  const signs = new Map(seen.map(([state, sign]) => [state, sign]));
  assert.ok(
    ["passed", "failed", "working", "refused", "aborted"].every((state) => signs.has(state)),
    [...signs.keys()].join(),
  );
  assert.equal(new Set(signs.values()).size, signs.size);
  assert.ok(seen.every(([, , word]) => word.length > 0));
  await page.context().close();
});
