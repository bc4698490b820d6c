// The way of a device from its first packet to the end of its session, drawn: a lane a kind, time from left to right.

import { h, s } from "./dom.js";
import * as format from "./format.js";
import { T } from "./text.js";

const LANES = ["boot", "dhcp", "file", "console", "script"];
const [WIDTH, LANE, LEFT, TOP, FOOT] = [1000, 34, 96, 8, 26];
/** A good distance of marks on the axis, in seconds. */
const PACES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400];

/** Moments of the boot, and of a session where one is given. */
export function drawTimeline(moments, session) {
  if (!moments.length && !session) return h("p", { class: "hint" }, T.session.noTimeline);
  const times = moments.map(({ at }) => Date.parse(at));
  if (session) times.push(Date.parse(session.started_at), session.ended_at ? Date.parse(session.ended_at) : Date.now());
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const lanes = LANES.filter((lane) => moments.some(({ what }) => what === lane));
  if (session) lanes.push("steps");
  const scale = (at) => LEFT + ((at - from) / Math.max(to - from, 1000)) * (WIDTH - LEFT - 16);
  const height = TOP + lanes.length * LANE + FOOT;
  const drawing = s(
    "svg",
    {
      class: "timeline",
      viewBox: `0 0 ${WIDTH} ${height}`,
      role: "img",
      "aria-label": T.timeline.label,
      preserveAspectRatio: "xMinYMin meet",
    },
    axis(from, to, scale, height),
    lanes.map((lane, at) => laneOf(lane, at)),
    moments.map((moment) => mark(moment, lanes.indexOf(moment.what), scale)),
    session ? span(session, lanes.length - 1, scale) : null,
  );
  return h(
    "div",
    { class: "timeline-box" },
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": T.timeline.label }, drawing),
    moments.length ? list(moments) : null,
  );
}

function axis(from, to, scale, height) {
  const seconds = Math.max((to - from) / 1000, 1);
  const pace = PACES.find((one) => seconds / one <= 9) ?? PACES.at(-1);
  const marks = [];
  for (let at = 0; at <= seconds; at += pace) {
    const x = scale(from + at * 1000);
    marks.push(
      s("line", { class: "tick", x1: x, x2: x, y1: TOP, y2: height - FOOT + 4 }),
      s("text", { class: "tick-text", x, y: height - 8, "text-anchor": "middle" }, format.clock(at)),
    );
  }
  return marks;
}

function laneOf(lane, at) {
  const y = TOP + at * LANE;
  return [
    s("rect", { class: `lane ${at % 2 ? "odd" : ""}`, x: 0, y, width: WIDTH, height: LANE }),
    s("text", { class: "lane-text", x: 10, y: y + LANE / 2 + 5 }, T.timeline[lane]),
  ];
}

function mark({ at, what, name, result, bytes }, lane, scale) {
  const x = scale(Date.parse(at));
  const y = TOP + lane * LANE + LANE / 2;
  const title = s("title", {}, `${format.time(at)} ${name} ${result}${bytes ? ` ${format.bytes(bytes)}` : ""}`);
  const kind = `mark ${what} ${result.split(" ")[0]}`;
  if (what === "file" && result !== "sent")
    return s("path", { class: kind, d: `M${x - 4} ${y - 4}l8 8m0-8l-8 8` }, title);
  if (what === "boot") return s("path", { class: kind, d: `M${x} ${y - 8}l8 8-8 8-8-8z` }, title);
  if (what === "console") return s("rect", { class: kind, x: x - 1, y: y - 8, width: 2, height: 16 }, title);
  return s("circle", { class: kind, cx: x, cy: y, r: what === "script" ? 7 : 4.5 }, title);
}

/** The session, from its script to its outcome. */
function span(session, lane, scale) {
  const [from, to] = [
    scale(Date.parse(session.started_at)),
    scale(session.ended_at ? Date.parse(session.ended_at) : Date.now()),
  ];
  const y = TOP + lane * LANE + 7;
  const word = session.outcome ? T.state[session.outcome] : T.state.open;
  const width = Math.max(to - from, 6);
  const inside = width > 90;
  // Beside a short one: behind it where there is room, before it at the right edge.
  const behind = from + width < WIDTH - 110;
  const place = inside
    ? { x: from + 10, "text-anchor": "start" }
    : behind
      ? { x: from + width + 8, "text-anchor": "start" }
      : { x: from - 8, "text-anchor": "end" };
  return [
    s("rect", { class: `span ${session.outcome ?? "open"}`, x: from, y, width, height: LANE - 14, rx: 4 }),
    s("text", { class: inside ? "span-text" : "lane-text", y: y + 15, ...place }, word),
  ];
}

function list(moments) {
  const cells = (moment) => [
    format.time(moment.at),
    T.timeline[moment.what],
    moment.name,
    moment.result,
    moment.bytes ? format.bytes(moment.bytes) : "",
  ];
  return h(
    "details",
    { class: "moments" },
    h("summary", {}, T.session.rows(moments.length)),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": T.timeline.label },
      h(
        "table",
        { class: "list tight" },
        h(
          "tbody",
          {},
          moments.map((moment) =>
            h(
              "tr",
              { data: { what: moment.what } },
              cells(moment).map((cell) => h("td", {}, cell)),
            ),
          ),
        ),
      ),
    ),
  );
}
