// The places on the line, as the one who looks after it uses them.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";

import { Agent } from "./agent.js";
import { Board } from "./board.js";
import { launch, open, seriousFaults, shoot } from "./browser.js";

let agent;
let browser;

before(async () => {
  [agent, browser] = await Promise.all([Agent.start("places: {quarantine_after: 2}\n"), launch()]);
  const image = await agent.image("gateway-2.4.img", randomBytes(1 << 20));
  await agent.api("POST", "/projects", { name: "Gateway", image, active: true });
});

after(async () => {
  await browser?.close();
  await agent?.stop();
});

const slot = (page, name) => page.locator(`.slot[data-slot="${name}"]`);
const board = (n) => new Board(agent, n, { jumper: "010" });

async function fail(n) {
  const one = board(n);
  await one.begin();
  await one.write();
  await one.fail("write.medium", "Input/output error");
}

test("a slot shows who is there and how it goes there, as it happens", async () => {
  const page = await open(browser, agent, "#/slots");
  const bench = slot(page, "bench-7");
  await bench.getByText("nobody").waitFor();
  const one = board(1);
  await one.begin();
  const here = bench.getByRole("button", { name: `Device ${one.serial.slice(-8)}` });
  await here.click();
  await page.getByRole("dialog").getByText(one.serial).first().waitFor();
  await page.keyboard.press("Escape");
  // Whoever is at a button stays there, whatever comes in.
  const cycle = bench.getByRole("button", { name: "Cycle: bench-7" });
  await cycle.focus();
  await one.write();
  await one.verify();
  await one.read();
  await one.finish();
  await bench.getByText("nobody").waitFor();
  assert.match(await bench.locator(".counts").textContent(), /1 passed · 0 failed · Yield 100 %/);
  assert.equal(await cycle.evaluate((node) => node === document.activeElement), true);
  await page.context().close();
});

test("a slot that was closed says why, and is released", async () => {
  const page = await open(browser, agent, "#/slots");
  const bench = slot(page, "bench-7");
  await fail(2);
  await fail(3);
  await bench.getByText("Closed", { exact: true }).waitFor();
  await bench.getByText("Closed after 2 attempts in a row").waitFor();
  assert.match(await bench.textContent(), /Failures in a row2/);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await seriousFaults(page), []);
    await shoot(page, `slots-closed-${colorScheme}`, { fullPage: true });
  }
  await page.setViewportSize({ width: 320, height: 640 });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
  await shoot(page, "slots-closed-320", { fullPage: true });
  await bench.getByRole("button", { name: "Release: bench-7" }).click();
  await bench.getByText("Closed after").waitFor({ state: "detached" });
  assert.equal((await agent.api("GET", "/slots")).slots[0].quarantined, false);
  await page.context().close();
});

test("power is taken after a question, and what the switch says is told", async () => {
  const page = await open(browser, agent, "#/slots");
  const bench = slot(page, "bench-7");
  const dialog = page.getByRole("dialog");
  let asked = 0;
  page.on("request", (request) => (asked += request.url().endsWith("/slots/bench-7/power") ? 1 : 0));
  await bench.getByRole("button", { name: "Off: bench-7" }).click();
  await dialog.getByText("Take the power from slot bench-7?").waitFor();
  await dialog.getByRole("button", { name: "No" }).click();
  assert.equal(asked, 0, "nothing without a yes");
  await bench.getByRole("button", { name: "Off: bench-7" }).click();
  await dialog.getByRole("button", { name: "Off" }).click();
  // This one is known by its jumpers, and no switch is there.
  await bench.getByText("slot bench-7 is at no port of a switch").waitFor();
  await page.context().close();
});

/** The page hears events of a switch that is not there. */
async function withSwitch(page, power, heard) {
  await page.routeWebSocket("**/api/v1/events/stream*", (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((message) => server.send(message));
    server.onMessage((message) => socket.send(message));
    heard.say = (name, data, sequence) =>
      socket.send(
        JSON.stringify({
          type: `io.bootline.${name}.v1`,
          time: new Date().toISOString(),
          sequence: String(sequence),
          data,
        }),
      );
  });
  await page.route("**/api/v1/slots", async (route) => {
    const body = await (await route.fetch()).json();
    body.slots[0] = {
      ...body.slots[0],
      power: power.is,
      port: { switch: "sw1", port: "Gi1/0/3", alias: "bench 3", number: 3 },
    };
    await route.fulfill({ json: body });
  });
  await page.route("**/api/v1/slots/bench-7/power", (route) => {
    power.asked = JSON.parse(route.request().postData()).action;
    return route.fulfill({ status: 202, json: { slot: "bench-7", action: power.asked } });
  });
}

test("a switch that takes its time is followed until it has done it, or has not", async () => {
  const power = { is: "on" };
  const heard = {};
  const page = await open(browser, agent, "#/slots", { prepare: (page) => withSwitch(page, power, heard) });
  const bench = slot(page, "bench-7");
  await bench.getByText("sw1 Gi1/0/3 (bench 3)").waitFor();
  assert.match(await bench.locator(".facts").textContent(), /Poweron/);
  await bench.getByRole("button", { name: "Off: bench-7" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Off" }).click();
  await bench.getByText("The switch is asked.").waitFor();
  assert.equal(power.asked, "off");
  power.is = "off";
  heard.say("slot.powered", { slot: "bench-7", action: "off", by: "page" }, 1_000_001);
  await bench.getByText("The power is off.").waitFor();
  await bench.locator(".badge", { hasText: "Power is off" }).waitFor();
  assert.match(await page.locator("#said").textContent(), /The power is off/);
  assert.match(await bench.locator(".facts").textContent(), /Poweroff/);
  await bench.getByRole("button", { name: "On: bench-7" }).click();
  await bench.getByText("The switch is asked.").waitFor();
  heard.say("slot.power.failed", { slot: "bench-7", action: "on", by: "page", detail: "no answer" }, 1_000_002);
  await bench.getByText("The switch did not do it: no answer").waitFor();
  assert.deepEqual(await seriousFaults(page), []);
  await shoot(page, "slots-power", { fullPage: true });
  await page.context().close();
});

test("on the wall slots are large, and nobody presses anything there", async () => {
  const wall = { viewport: { width: 1920, height: 1080 }, search: "?wall" };
  const page = await open(browser, agent, "#/slots", wall);
  const bench = slot(page, "bench-7");
  const figure = bench.locator(".counts strong").first();
  const size = await figure.evaluate((node) => parseFloat(getComputedStyle(node).fontSize));
  assert.ok(size >= 36, `${size} px from three metres`);
  assert.equal(await bench.getByRole("button", { name: "Off: bench-7" }).isVisible(), false);
  assert.deepEqual(await seriousFaults(page), []);
  await shoot(page, "slots-wall");
  await page.context().close();
});

test("whoever may only look sees no buttons", async () => {
  const who = { role: "viewer", name: "guest" };
  const prepare = (page) => page.route("**/api/v1/session", (route) => route.fulfill({ json: who }));
  const page = await open(browser, agent, "#/slots", { prepare });
  await slot(page, "bench-7").locator(".counts").waitFor();
  assert.equal(await page.getByRole("button", { name: /: bench-7$/ }).count(), 0);
  await page.context().close();
});
