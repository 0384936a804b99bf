// Updates of the pages of `cargo xtask serve`: the tables of `/`, and the log and the state of a build.
//
// Texts are added with textContent only. HTML comes from this server, where it is escaped, and is parsed by DOMParser, which runs no scripts.
"use strict";

const main = document.getElementById("main");
const announcement = document.getElementById("announce");
const pauseButton = document.getElementById("pause");
const PERIOD = 5000;
const MOST_LINES = 5000;
let paused = false;

function announce(text) {
  if (announcement.textContent !== text) announcement.textContent = text;
}

// Runs `change`, which may replace the element with the focus, and gives the focus to the link with the same address afterwards.
function keepingFocus(root, change) {
  const focused = document.activeElement;
  const href = root.contains(focused) ? focused.getAttribute("href") : null;
  change();
  if (href === null || document.activeElement === focused) return;
  for (const link of root.querySelectorAll("a[href]")) {
    if (link.getAttribute("href") === href) return link.focus({ preventScroll: true });
  }
}

// The page as the server renders it now; null if it cannot be read.
async function current() {
  try {
    const response = await fetch(location.href, { cache: "no-store", credentials: "same-origin" });
    if (response.redirected && new URL(response.url).pathname === "/login") {
      announce("The session has ended. Log in again.");
      return null;
    }
    if (!response.ok) {
      announce(`The server answers with status ${response.status}.`);
      return null;
    }
    return new DOMParser().parseFromString(await response.text(), "text/html");
  } catch {
    announce("No connection to the server.");
    return null;
  }
}

// Replaces an element by the one with the same id in the new page, if they differ. Returns true if it was replaced.
function replace(id, page) {
  const old = document.getElementById(id);
  const fresh = page.getElementById(id);
  if (!old || !fresh || old.outerHTML === fresh.outerHTML) return false;
  keepingFocus(old.parentElement, () => old.replaceWith(document.adoptNode(fresh)));
  return true;
}

// Replaces the rows that differ, and returns the changes of state.
function replaceRows(body, fresh) {
  const changes = [];
  const rows = [...fresh.rows].map((row) => {
    const old = document.getElementById(row.id);
    if (!old) changes.push(`New build ${row.cells[0].textContent}: ${row.dataset.status}.`);
    if (old && old.outerHTML === row.outerHTML) return old;
    if (old && old.dataset.status !== row.dataset.status) {
      changes.push(`Build ${row.cells[0].textContent}: ${row.dataset.status}.`);
    }
    return document.adoptNode(row);
  });
  // Moving a row, even to where it is, takes the focus from it.
  const isSame = rows.length === body.rows.length && rows.every((row, at) => row === body.rows[at]);
  if (!isSame) keepingFocus(body, () => body.replaceChildren(...rows));
  return changes;
}

async function refreshHome() {
  const page = await current();
  if (!page || paused) return;
  const body = document.getElementById("build-rows");
  const fresh = page.getElementById("build-rows");
  if (!body !== !fresh) return location.reload();
  const changes = body ? replaceRows(body, fresh) : [];
  replace("images", page);
  if (changes.length > 0) announce(changes.join(" "));
}

function liveHome() {
  let timer = 0;
  let running = false;
  const isActive = () => !paused && document.visibilityState === "visible";
  const tick = async () => {
    clearTimeout(timer);
    if (running || !isActive()) return;
    running = true;
    await refreshHome();
    running = false;
    if (isActive()) timer = setTimeout(tick, PERIOD);
  };
  document.addEventListener("visibilitychange", tick);
  timer = setTimeout(tick, PERIOD);
  return tick;
}

// The same as clean.rs.
const SEQUENCES = new RegExp(
  "(?:\\u001b\\[|\\u009b)[0-?]*[ -/]*[@-~]?" +
    "|(?:\\u001b[\\]PX^_]|[\\u0090\\u0098\\u009d-\\u009f])[^\\u0007\\u001b\\u009c\\n]*(?:\\u0007|\\u009c|\\u001b\\\\)?" +
    "|\\u001b[ -/]*[0-~]",
  "g",
);
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const LONGEST = 4096;
const MARK = "… [truncated]";

function clean(text) {
  const visible = text.replace(SEQUENCES, "").replace(HIDDEN, (c) => `\\u{${c.charCodeAt(0).toString(16)}}`);
  const line = visible.split("\n").map((part) => part.trimEnd()).filter((part) => part.trim() !== "").join(" | ");
  const characters = line.length > LONGEST ? [...line] : [];
  return characters.length > LONGEST ? characters.slice(0, LONGEST - MARK.length).join("") + MARK : line;
}

// The same as log.rs.
const TITLES = { base: "base image", "smoke-binary": "smoke binary", cleanup: "clean up", freshness: "pins" };
const MARKS = { done: "✓", pass: "✓", "up-to-date": "=", skipped: "–", quarantined: "–" };

function clock(seconds) {
  if (!(seconds >= 10)) return `${Math.max(seconds || 0, 0).toFixed(1)} s`;
  const whole = Math.floor(seconds);
  return whole < 120 ? `${whole} s` : `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, "0")} s`;
}

function lineOf(event) {
  const s = (name) => (typeof event[name] === "string" ? event[name] : "");
  const n = (name) => (Number.isInteger(event[name]) ? event[name] : 0);
  const title = Object.hasOwn(TITLES, s("phase")) ? TITLES[s("phase")] : s("phase");
  const mark = Object.hasOwn(MARKS, s("outcome")) ? MARKS[s("outcome")] : "✗";
  const took = s("outcome") === "up-to-date" ? "cached" : clock(event.seconds);
  const step = `[${n("index")}/${n("total")}] ${s("name")}`;
  const after = (name) => (Number.isInteger(event[name]) ? `:${event[name]}` : "");
  switch (event.event) {
    case "run-started": return `run ${s("run")}: ${s("command")}`;
    case "phase-started": return `→ ${title} ${s("subject")}`;
    case "phase-finished": return `${mark} ${title}, ${took}${s("summary") && `: ${s("summary")}`}`;
    case "step-started": {
      const known = typeof event.expected_seconds === "number";
      return `→ ${step}${known ? `, ${clock(event.expected_seconds)} last time` : ""}`;
    }
    case "step-output": return `[${s("name")}] ${s("line")}`;
    case "step-finished": {
      const code = Number.isInteger(event.exit_code) ? `, exit code ${event.exit_code}` : "";
      return `${mark} ${step}, ${took}${code}`;
    }
    case "progress": {
      const [done, all] = Array.isArray(event.fraction) ? event.fraction : [0, 0];
      return `… ${title}: ${s("message")}${all > 0 ? ` ${Math.floor((done * 100) / all)}%` : ""}`;
    }
    case "note": return s("message");
    case "warning": return `warning: ${s("message")}; help: ${s("hint")}`;
    case "finding": {
      const place = s("file") === "" ? "" : `${s("file")}${after("line")}${after("column")}: `;
      return `${s("severity")}[${s("check")}]: ${place}${s("message")}; help: ${s("hint")}`;
    }
    case "check":
      return `${mark} ${s("name")} (${s("pass")}), ${clock(event.seconds)}: ${s("outcome")} ${s("message")}`;
    case "diff": return `changes ${s("file")}`;
    case "result":
      if (event.ok === true) return `done: ${s("summary")}`;
      return `failed with exit code ${n("exit")}: ${s("error") || s("summary")}`;
    default: return null;
  }
}

function appendLine(log, number, text) {
  // With the scroll position at the end, the newest line remains visible.
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const line = document.createElement("span");
  line.id = `e${number}`;
  line.dataset.seq = number;
  line.textContent = `${clean(text)}\n`;
  log.append(line);
  while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
  document.getElementById("no-log")?.remove();
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

async function refreshBuild() {
  const page = await current();
  if (!page) return;
  const before = document.getElementById("state").dataset.status;
  replace("state", page);
  document.title = page.title;
  const now = document.getElementById("state").dataset.status;
  if (now !== before) announce(`The build has the state ${now}.`);
}

// The time since the build started. The server renders the time after it has ended.
function showDurations() {
  if (paused) return;
  for (const element of document.querySelectorAll("[data-since]")) {
    const seconds = Math.floor((Date.now() - Date.parse(element.dataset.since)) / 1000);
    element.textContent = `${clock(seconds)} so far`;
  }
}

function liveBuild() {
  const log = document.getElementById("log");
  let last = Number(main.dataset.after);
  let source = null;
  let retry = 0;
  let refresh = 0;
  let ended = false;
  // At most one request in two seconds, however many steps end.
  const refreshSoon = () => {
    refresh ||= setTimeout(async () => {
      await refreshBuild();
      refresh = 0;
    }, 2000);
  };
  const onEvent = (message) => {
    const number = Number(message.lastEventId);
    if (number <= last) return;
    last = number;
    let event;
    try {
      event = JSON.parse(message.data);
    } catch {
      return;
    }
    const text = event === null || typeof event !== "object" ? null : lineOf(event);
    if (text !== null) appendLine(log, number, text);
    if (/^(run|phase|step)-(started|finished)$/.test(event?.event)) refreshSoon();
  };
  const connect = () => {
    clearTimeout(retry);
    if (paused || ended) return;
    source?.close();
    source = new EventSource(`${main.dataset.events}?after=${last}`);
    source.addEventListener("event", onEvent);
    source.addEventListener("end", () => {
      ended = true;
      source.close();
      clearTimeout(refresh);
      pauseButton.hidden = true;
      refreshBuild();
    });
    source.addEventListener("error", () => {
      // The browser reconnects by itself unless the answer was not an event stream.
      if (source.readyState === EventSource.CLOSED && !ended) {
        refreshBuild();
        retry = setTimeout(connect, PERIOD);
      }
    });
  };
  addEventListener("pagehide", () => source?.close());
  setInterval(showDurations, 1000);
  log.scrollTop = log.scrollHeight;
  connect();
  return () => (paused ? source?.close() : (refreshBuild(), connect()));
}

if (main?.dataset.live) {
  const onPause = main.dataset.live === "home" ? liveHome() : liveBuild();
  pauseButton.hidden = false;
  pauseButton.addEventListener("click", () => {
    paused = !paused;
    pauseButton.setAttribute("aria-pressed", String(paused));
    onPause();
  });
}
