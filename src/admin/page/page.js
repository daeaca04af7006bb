// Fetches /api/stats every other second, and shows it. No library, nothing from elsewhere.
"use strict";

const PAUSE = 2000;

const OUTCOMES = [
  ["connected", "direct"],
  ["relayed", "relayed"],
  ["failed", "failed"],
  ["timed_out", "timed out"],
  ["given_up", "given up"],
  ["abandoned", "left"],
];

const NATS = [
  ["open", "open", "no NAT"],
  ["endpoint_independent", "indep.", "endpoint-independent mapping"],
  ["preserving", "keeps", "keeps the port"],
  ["sequential", "seq.", "ports in sequence"],
  ["block", "block", "ports of a block"],
  ["random", "random", "random ports"],
  ["dependent", "dep.", "another port for each destination"],
  ["pool", "pool", "several addresses"],
  ["unknown", "?", "not probed"],
];

// From these percentages on, a cell has the next colour.
const STEPS = [10, 50, 80, 95];

const REASONS = {
  "no-connection": "no connection came about",
  "not-allowed": "not allowed, or not known",
  "peer-gone": "the other peer has gone",
  "no-such-service": "no such service",
  "service-unreachable": "service unreachable",
};

let before = null;
let chosen = null;

const at = (id) => document.getElementById(id);
const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);

function say(id, text, unit) {
  const element = at(id);
  element.textContent = text;
  if (unit) {
    element.append(make("small", unit));
  }
}

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) {
    element.textContent = text;
  }
  if (className) {
    element.className = className;
  }
  return element;
}

// ---- numbers as people read them -------------------------------------------------------------------

function count(number) {
  if (number < 10000) {
    return String(Math.round(number));
  }
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) {
      return (number / size).toPrecision(3) + " " + letter;
    }
  }
  return String(number);
}

function bytes(number) {
  for (const [size, unit] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (number >= size) {
      return [(number / size).toPrecision(3), unit];
    }
  }
  return [String(Math.round(number)), "B"];
}

function time(seconds) {
  if (seconds < 0.001) {
    return [String(Math.round(seconds * 1e6)), "µs"];
  }
  if (seconds < 1) {
    return [String(Number((seconds * 1000).toPrecision(2))), "ms"];
  }
  return [String(Number(seconds.toPrecision(2))), "s"];
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) {
    return "0 s";
  }
  let left = seconds;
  return parts.slice(first, first + 2).map(([size, unit]) => {
    const whole = Math.floor(left / size);
    left -= whole * size;
    return whole + " " + unit;
  }).join(" ");
}

function percent(part, whole) {
  const share = (100 * part) / whole;
  // All and none are said only where it is so.
  return part === whole ? "100" : part === 0 ? "0" : String(Math.min(99, Math.max(1, Math.round(share))));
}

// The time below which a part of a histogram lies, as far as its classes tell.
function quantile(histogram, part) {
  const all = sum(histogram.counts);
  if (all === 0) {
    return null;
  }
  let left = all * part;
  for (let index = 0; index < histogram.counts.length; index++) {
    const here = histogram.counts[index];
    if (here > 0 && left <= here) {
      const from = index === 0 ? 0 : histogram.bounds_seconds[index - 1];
      const to = histogram.bounds_seconds[index] ?? from;
      return from + ((to - from) * left) / here;
    }
    left -= here;
  }
  return histogram.bounds_seconds.at(-1);
}

// What was added since the last look: figures that are about now.
function since(now, then) {
  const counts = now.counts.map((one, index) => one - then.counts[index]);
  return { bounds_seconds: now.bounds_seconds, counts };
}

// ---- parts of the page ---------------------------------------------------------------------------------

function showState(stats) {
  const state = at("state");
  state.textContent = stats.draining ? "draining" : "ready";
  state.classList.toggle("ready", !stats.draining);
  say("version", stats.version);
  say("uptime", duration(stats.uptime_seconds));
}

function decidedOf(outcomes) {
  return outcomes.connected + outcomes.relayed + outcomes.failed + outcomes.timed_out;
}

function showTiles(stats) {
  const passed = before ? stats.uptime_seconds - before.uptime_seconds : stats.uptime_seconds;
  const rate = (of) => Math.max(0, of(stats) - (before ? of(before) : 0)) / Math.max(passed, 0.001);
  const perSecond = (of) => Number(rate(of).toPrecision(2)) + "/s";

  say("peers", count(stats.sessions.current));
  say("logins", "logins: " + perSecond((s) => s.sessions.logins));

  const outcomes = stats.introductions.outcomes;
  const decided = decidedOf(outcomes);
  if (decided > 0) {
    say("direct", percent(outcomes.connected, decided), "%");
  } else {
    say("direct", "–");
  }
  say("decided", count(outcomes.connected) + " of " + count(decided));

  const times = stats.introductions.time_to_direct;
  const median = quantile(times, 0.5);
  if (median === null) {
    say("median", "–");
    say("slowest", "median");
  } else {
    say("median", ...time(median));
    say("slowest", "median; 95 % in " + time(quantile(times, 0.95)).join(" "));
  }

  say("introductions", count(stats.introductions.current));
  say("asked", "begun: " + perSecond((s) => s.introductions.started));

  const [size, unit] = bytes(rate((s) => s.relay.bytes));
  say("relayed", size, unit + "/s");
  say("pairs", count(stats.relay.pairs) + (stats.relay.pairs === 1 ? " pair, " : " pairs, ") + bytes(stats.relay.bytes).join(" "));

  const turns = stats.event_loop.turns;
  const recent = before ? since(turns, before.event_loop.turns) : turns;
  const lag = quantile(recent, 0.99) ?? quantile(turns, 0.99);
  say("lag", ...(lag === null ? ["–"] : time(lag)));
  say("slow", "99 % of turns; " + count(stats.event_loop.slow_handlers) + " slow");
}

function showOutcomes(outcomes) {
  const all = sum(Object.values(outcomes));
  const bar = at("outcomes");
  const legend = at("legend");
  bar.replaceChildren();
  legend.replaceChildren();
  for (const [name, words] of OUTCOMES) {
    if (outcomes[name] > 0) {
      const part = make("span", undefined, name);
      part.style.flexGrow = outcomes[name];
      bar.append(part);
    }
    legend.append(make("li", words + " " + count(outcomes[name]), name));
  }
  const said = OUTCOMES.map(([name, words]) => outcomes[name] + " " + words).join(", ");
  bar.setAttribute("aria-label", all ? said : "No introduction has ended yet.");
}

function showMatrix(pairs) {
  if (pairs.length === 0) {
    return;
  }
  const place = (nat) => NATS.findIndex(([name]) => name === nat);
  const met = new Map(pairs.map((pair) => [pair.nats.map(place).sort((a, b) => a - b).join(), pair]));
  const shown = NATS.map((_, index) => index)
    .filter((index) => pairs.some((pair) => pair.nats.map(place).includes(index)));
  const table = make("table", undefined, shown.length <= 5 ? "wide" : undefined);
  for (const row of shown) {
    const line = table.insertRow();
    const name = make("th", NATS[row][1]);
    name.scope = "row";
    name.title = NATS[row][2];
    line.append(name);
    for (const column of shown.filter((index) => index <= row)) {
      const pair = met.get([column, row].join());
      line.append(pair ? cellOf(pair, NATS[column], NATS[row]) : make("td", undefined, "unmet"));
    }
  }
  const names = table.insertRow();
  names.append(make("td"));
  for (const column of shown) {
    const name = make("th");
    name.scope = "col";
    name.title = NATS[column][2];
    name.append(make("span", NATS[column][1]));
    names.append(name);
  }
  const focused = document.activeElement?.dataset?.pair;
  at("matrix").replaceChildren(table);
  table.querySelector(`[data-pair="${CSS.escape(focused ?? "")}"]`)?.focus();
}

function cellOf(pair, one, other) {
  const decided = decidedOf(pair.outcomes);
  const button = make("button", decided ? percent(pair.outcomes.connected, decided) : "–");
  const share = decided ? (100 * pair.outcomes.connected) / decided : 0;
  button.type = "button";
  button.dataset.pair = pair.nats.join(" ");
  // The steps of the colours are few, so that each has a contrast that was chosen.
  button.className = decided ? "share-" + STEPS.filter((step) => share >= step).length : "";
  const ends = OUTCOMES.filter(([name]) => pair.outcomes[name] > 0)
    .map(([name, words]) => count(pair.outcomes[name]) + " " + words);
  const said = one[2] + " and " + other[2] + ": " + ends.join(", ");
  button.title = said;
  button.setAttribute("aria-label", said);
  button.addEventListener("click", () => {
    chosen = button.dataset.pair;
    say("cell", said);
  });
  if (chosen === button.dataset.pair) {
    say("cell", said);
  }
  const cell = make("td");
  cell.append(button);
  return cell;
}

function showTimes(histogram) {
  const filled = histogram.counts.map((one, index) => [one, index]).filter(([one]) => one > 0);
  if (filled.length === 0) {
    return;
  }
  // From the first to the last class that has any, and one beside each.
  const first = Math.max(0, filled[0][1] - 1);
  const last = Math.min(histogram.counts.length - 1, filled.at(-1)[1] + 1);
  const most = Math.max(...histogram.counts);
  const bars = make("div", undefined, "bars");
  for (let index = first; index <= last; index++) {
    const bound = histogram.bounds_seconds[index];
    const name = bound === undefined ? "longer" : "≤ " + time(bound).join(" ");
    const bar = make("div", undefined, histogram.counts[index] ? "bar" : "bar none");
    bar.style.setProperty("--share", (100 * histogram.counts[index]) / most);
    const line = make("div");
    line.append(bar);
    bars.append(make("span", name, "name"), line, make("span", count(histogram.counts[index]), "number"));
  }
  at("times").replaceChildren(bars);
}

function list(id, lines) {
  const items = lines.flatMap(([name, value, alert]) => [make("dt", name), make("dd", value, alert ? "alert" : "")]);
  at(id).replaceChildren(...items);
}

function showSystem(stats) {
  const { process, connections, stun } = stats;
  const orDash = (value, words) => (value === null ? "–" : words(value));
  const full = process.open_descriptors > 0.9 * process.descriptor_limit;
  list("system", [
    ["memory", orDash(process.resident_memory_bytes, (it) => bytes(it).join(" "))],
    ["CPU time", orDash(process.cpu_seconds, duration)],
    ["descriptors", orDash(process.open_descriptors, count) + " of " + orDash(process.descriptor_limit, count), full],
    ["accept pauses", count(connections.accept_pauses), connections.accept_pauses > 0],
    ["logins in progress", count(connections.handshakes)],
    ["handshakes failed", count(connections.handshakes_failed)],
    ["turned away", count(connections.turned_away)],
    ["STUN requests", count(stun.answered)],
    ["dialled back", count(stats.dial_backs.made)],
    ["rounds", stats.introductions.rounds.map(count).join(" · ")],
  ]);
}

function showRefused(stats) {
  const all = [...Object.entries(stats.refusals), ...Object.entries(stats.relay.refused).map(([name, it]) => ["relay: " + name, it])];
  const lines = all.filter(([, it]) => it > 0).sort((one, other) => other[1] - one[1]);
  list("refused", lines.length
    ? lines.map(([name, it]) => [REASONS[name] ?? name, count(it)])
    : [["nothing", "0"]]);
}

function show(stats) {
  showState(stats);
  showTiles(stats);
  showOutcomes(stats.introductions.outcomes);
  showMatrix(stats.introductions.nat_pairs);
  showTimes(stats.introductions.time_to_direct);
  showSystem(stats);
  showRefused(stats);
}

// ---- the loop --------------------------------------------------------------------------------------

async function look() {
  // Who doesn't look needs no numbers.
  if (!document.hidden) {
    try {
      const answer = await fetch("/api/stats", { signal: AbortSignal.timeout(5000) });
      if (!answer.ok) {
        throw new Error(String(answer.status));
      }
      const stats = await answer.json();
      // Another process: its counters begin anew.
      if (before && stats.uptime_seconds < before.uptime_seconds) {
        before = null;
      }
      show(stats);
      before = stats;
    } catch {
      const state = at("state");
      state.textContent = "no answer";
      state.classList.remove("ready");
    }
  }
  setTimeout(look, PAUSE);
}

look();
