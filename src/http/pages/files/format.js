// How figures, times and names are shown.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** 7818182656 -> "7.82 GB"; decimal, as storage is sold. */
export function bytes(count) {
  if (count === undefined || count === null) return "";
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function rate(perSecond) {
  return `${bytes(perSecond)}/s`;
}

/** "8 GB", "7.3 GiB", "7818182656" -> bytes; NaN where it is none of them. */
export function parseBytes(text) {
  const found = /^\s*([0-9]+(?:[.,][0-9]+)?)\s*([kKMGT]?)(i?)[bB]?\s*$/.exec(text);
  if (!found) return NaN;
  const power = " kmgt".indexOf(found[2].toLowerCase() || " ");
  return Math.round(Number(found[1].replace(",", ".")) * (found[3] ? 1024 : 1000) ** power);
}

/** The shortest text that parseBytes reads as the same number. */
export function exactBytes(count) {
  for (const [unit, size] of [
    ["TB", 1e12],
    ["GB", 1e9],
    ["MB", 1e6],
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
  ]) {
    if (count >= size && count % (size / 100) === 0) return `${count / size} ${unit}`;
  }
  return String(count);
}

/** 95 -> "1:35", 3700 -> "1:01:40" */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, at) => (at === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}

/** For people: "about 3 min", "20 s". */
export function about(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 10) return "under 10 s";
  if (seconds < 90) return `${Math.ceil(seconds / 5) * 5} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function spent(ms) {
  return ms < 1000 ? `${ms} ms` : clock(ms / 1000);
}

const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const TIME = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});

export function time(text) {
  return text ? TIME.format(new Date(text)) : "";
}

/** Today only the time. */
export function moment(text) {
  if (!text) return "";
  const at = new Date(text);
  const sameDay = at.toDateString() === new Date().toDateString();
  return sameDay ? TIME.format(at) : `${DAY.format(at)} ${TIME.format(at)}`;
}

export function between(from, to) {
  return from && to ? new Date(to) - new Date(from) : undefined;
}

/** dca632010203 -> "dc:a6:32:01:02:03" */
export function mac(text) {
  return text?.length === 12 ? text.match(/../g).join(":") : (text ?? "");
}

/** What people read off a module: the end of its serial. */
export function shortSerial(device) {
  const serial = device.serial ?? device.serial8;
  return serial ? serial.slice(-8) : mac(device.mac).slice(-8);
}

export function digest(text) {
  return text ? `${text.slice(0, 12)}…` : "";
}

export function percent(part, whole) {
  return whole > 0 ? `${((100 * part) / whole).toFixed(part === whole || part === 0 ? 0 : 1)} %` : "–";
}

/** Natural order: "port 2" before "port 10". */
export const byName = new Intl.Collator(undefined, { numeric: true }).compare;
