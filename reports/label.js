// Shows answers one at a time and sends the labels. A text is set with textContent, and in no other way.
"use strict";

const byId = (id) => document.getElementById(id);
const token = location.hash.slice(1);
const guide = byId("guide");
const note = byId("note");
const buttons = [...document.querySelectorAll("[data-label]")];
const KEYS = Object.fromEntries(buttons.map((button) => [button.getAttribute("aria-keyshortcuts"), button.dataset.label]));

let rater = sessionStorage.getItem("rater") || "";
let labels = []; // what the rater said of each answer, null where nothing
let seen = 0; // how often the rater gave a label: one from a page that does not know of all is refused
let index = -1; // of the answer that is shown; labels.length: the end
let kept = ""; // the note as it was saved
let busy = false;
const drafts = new Map(); // notes of answers that have no label yet

// ---- the server ------------------------------------------------------------------------------------

async function ask(path, content) {
  let reply;
  try {
    reply = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: JSON.stringify({ rater, ...content }),
      signal: AbortSignal.timeout(20_000),
    });
  } catch {
    throw new Error("emeval does not answer. If it was stopped, start emeval label again and open the address that it prints; all that was saved is there.");
  }
  const said = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(said.error || `emeval answered with status ${reply.status}.`);
  return said;
}

// Do one thing at a time, and say what went wrong. Returns whether it went well.
async function attempt(action) {
  if (busy) return false;
  busy = true;
  document.body.classList.add("busy");
  try {
    await action();
    byId("wrong").hidden = true;
    return true;
  } catch (error) {
    byId("said").textContent = "";
    byId("wrong").textContent = error.message;
    byId("wrong").hidden = false;
    return false;
  } finally {
    busy = false;
    document.body.classList.remove("busy");
  }
}

// ---- what is shown ---------------------------------------------------------------------------------

async function show(place) {
  keepDraft();
  if (place >= labels.length) return showEnd();
  const answer = await ask("/answer", { index: place });
  index = place;
  labels[place] = answer.label;
  kept = answer.note;
  for (const [part, text] of [["question", answer.question], ["response", answer.response]]) {
    byId(part).textContent = text;
    byId(part).hidden = text === "";
    byId(`no-${part}`).hidden = text !== "";
  }
  note.value = drafts.get(place) ?? answer.note;
  byId("answer").hidden = byId("desk").hidden = false;
  byId("end").hidden = true;
  byId("back").disabled = place === 0;
  showProgress();
  window.scrollTo(0, 0);
  byId("answer").focus({ preventScroll: true });
}

function showEnd() {
  index = labels.length;
  const left = labels.filter((label) => label === null).length;
  byId("end-title").textContent = left ? "The end, with some left out" : "All done";
  byId("end-text").textContent = left
    ? `${left} of ${labels.length} answers are without a label.`
    : `All ${labels.length} answers have a label, and all labels are saved. Close this page and press Ctrl-C in the terminal; emeval label RUN --export FILE writes them out. To look at an answer again, go back.`;
  byId("unlabelled").hidden = left === 0;
  byId("answer").hidden = true;
  byId("end").hidden = byId("desk").hidden = false;
  byId("back").disabled = false;
  note.value = kept = "";
  showProgress();
  byId("end").focus();
}

function showProgress() {
  const done = labels.filter((label) => label !== null).length;
  const ended = index >= labels.length;
  byId("place").textContent = ended ? "The end" : `Answer ${index + 1} of ${labels.length}`;
  byId("count").textContent = `${done} labelled`;
  byId("progress").max = labels.length;
  byId("progress").value = done;
  document.title = `${byId("place").textContent} · gold labels`;
  byId("next").disabled = note.disabled = ended;
  for (const button of buttons) {
    button.disabled = ended;
    button.setAttribute("aria-pressed", String(!ended && labels[index] === button.dataset.label));
  }
}

function nextUnlabelled() {
  const after = labels.indexOf(null, index + 1);
  return after >= 0 ? after : labels.includes(null) ? labels.indexOf(null) : labels.length;
}

// ---- what is done ----------------------------------------------------------------------------------

function keepDraft() {
  if (index < 0 || index >= labels.length || note.value === kept) drafts.delete(index);
  else drafts.set(index, note.value);
}

async function save(label) {
  const given = note.value.trim();
  try {
    ({ seen } = await ask("/label", { index, label, note: given, seen }));
  } catch (error) {
    throw new Error(`This was not saved. ${error.message}`);
  }
  labels[index] = label;
  kept = note.value = given;
  drafts.delete(index);
  showProgress();
}

async function give(label) {
  if (index < 0 || index >= labels.length) return;
  await attempt(async () => {
    await save(label);
    byId("said").textContent = `Answer ${index + 1} saved: ${label}.`;
    await show(nextUnlabelled());
  });
}

// A note that was changed on an answer with a label is saved without pressing the label again.
async function saveNote() {
  if (index < 0 || index >= labels.length || labels[index] === null || note.value.trim() === kept) return true;
  return attempt(async () => {
    await save(labels[index]);
    byId("said").textContent = `Note on answer ${index + 1} saved.`;
  });
}

async function go(place) {
  if (place < 0 || place > labels.length || place === index || !(await saveNote())) return;
  await attempt(async () => {
    await show(place);
    byId("said").textContent = "";
  });
}

// ---- the guide, and who labels ---------------------------------------------------------------------

function openGuide() {
  const first = index < 0;
  const unknown = first && !rater;
  byId("who").hidden = !unknown;
  byId("rater").disabled = !unknown;
  byId("go").textContent = first ? "Begin" : "Go on";
  if (!guide.open) guide.showModal();
  byId(unknown ? "rater" : "go").focus({ preventScroll: true });
  guide.scrollTop = 0;
}

guide.addEventListener("cancel", (event) => {
  if (index < 0) event.preventDefault();
});

byId("begin").addEventListener("submit", async (event) => {
  if (index >= 0) return;
  event.preventDefault();
  if (!rater) rater = byId("rater").value;
  const asked = !byId("rater").disabled;
  const well = await attempt(begin);
  byId("begin-wrong").hidden = well;
  if (well) {
    guide.close();
    byId("answer").focus({ preventScroll: true });
  } else {
    byId("begin-wrong").textContent = byId("wrong").textContent;
    byId("wrong").hidden = true;
    if (asked) rater = "";
  }
});

async function hello() {
  const said = await ask("/begin", {});
  if (said.rater === null) return false;
  ({ rater, labels, seen } = said);
  sessionStorage.setItem("rater", rater);
  return true;
}

async function begin() {
  if (await hello()) await show(nextUnlabelled());
}

// ---- keys and buttons ------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing || guide.open) return;
  if (event.target === note) {
    if (event.key !== "Escape") return;
    event.preventDefault();
    saveNote();
    byId("answer").focus({ preventScroll: true });
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key; // Caps Lock may be on
  const act = {
    ArrowLeft: () => go(index - 1),
    z: () => go(index - 1),
    ArrowRight: () => go(index + 1),
    n: () => note.focus(),
    "?": openGuide,
  }[key] ?? (KEYS[key] && (() => give(KEYS[key])));
  if (!act || index < 0) return;
  event.preventDefault();
  act();
});

for (const button of buttons) button.addEventListener("click", () => give(button.dataset.label));
byId("back").addEventListener("click", () => go(index - 1));
byId("next").addEventListener("click", () => go(index + 1));
byId("help").addEventListener("click", openGuide);
byId("unlabelled").addEventListener("click", () => go(labels.indexOf(null)));
window.addEventListener("beforeunload", (event) => {
  keepDraft();
  if (drafts.size) event.preventDefault();
});

// A reload goes on where the rater was; a first visit begins with what the labels mean.
attempt(async () => {
  const known = await hello();
  if (known && labels.some((label) => label !== null)) await show(nextUnlabelled());
  else openGuide();
});
