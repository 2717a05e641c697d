"use strict";
const at = (id) => document.getElementById(id);
let token = "";
let model = null;
let waiting = Promise.resolve();

async function ask(address, options = {}) {
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const response = await fetch(address, { ...options, headers });
  const answer = await response.json();
  if (response.ok) return answer;
  if (response.status === 401) at("login").hidden = false;
  throw Object.assign(new Error(answer.detail), { problem: answer });
}

function unreachable(error) {
  return error.problem || { title: "The server did not answer", detail: "It may have stopped.", remedy: "try again." };
}

function told(problem) {
  return `${problem.title}. ${problem.detail} What to do: ${problem.remedy}`;
}

async function meet() {
  try {
    model = await ask("v1/model");
  } catch (error) {
    const problem = unreachable(error);
    if (problem.status === 503) setTimeout(meet, 1000);
    else at("about").textContent = problem.status === 401 ? "" : told(problem);
    return;
  }
  at("login").hidden = true;
  document.title = "tlkit: " + model.name;
  const shown = model.classes.slice(0, 12).join(", ") + (model.classes.length > 12 ? ", …" : "");
  const what = model.facts.task === "number" ? "predicts" : `knows ${model.classes.length} classes:`;
  at("about").textContent = `${model.name} (${model.facts.backbone}) ${what} ${shown}.`;
}

function figure(source, words, description) {
  const made = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = words;
  if (source) {
    const image = document.createElement("img");
    image.src = source;
    image.alt = description;
    made.append(image);
  } else {
    const gone = document.createElement("div");
    gone.className = "gone";
    gone.textContent = "no longer there";
    made.append(gone);
  }
  made.append(caption);
  return made;
}

const percent = (value) => (value < 0.0005 ? "< 0.1 %" : (100 * value).toFixed(1) + " %");

function fill(card, result) {
  const part = (name) => card.querySelector("." + name);
  const number = (value) => String(Number(value.toPrecision(5)));
  const shown = (one) => `${one.name} ${number(one.value)}`;
  const between = (one) => `between ${number(one.low)} and ${number(one.high)}(95 % interval)`;
  const labels = (result.numbers || []).map(shown).join(", ") || result.predicted.join(", ") || "none of its classes";
  part("predicted").textContent = result.abstained ? "Not sure enough to say" : labels;
  part("verdict").textContent = result.abstained
    ? `Its best guess would be ${labels}, ${percent(result.probability)}.`
    : result.numbers
    ? result.numbers.filter((one) => one.low !== undefined && one.low !== null).map(between).join("; ")
    : result.probability === null
      ? "each label has its own probability"
      : `${percent(result.probability)} probable`;
  for (const entry of result.classes) {
    const row = document.createElement("li");
    const parts = ["name", "bar", "number"].map((name) => Object.assign(document.createElement("span"), { className: name }));
    const bar = document.createElement("span");
    bar.style.width = 100 * entry.probability + "%";
    parts[0].textContent = entry.name;
    parts[1].append(bar);
    parts[2].textContent = percent(entry.probability);
    row.append(...parts);
    part("classes").append(row);
  }
  if (result.unfamiliar) {
    part("note").hidden = false;
    part("note").textContent = "This is unlike anything in the training images; do not rely on the prediction.";
  }
  if (result.explanation) explain(part, result.explanation);
}

function explain(part, found) {
  const words = found.blank ? `no evidence for ${found.label} found` : `evidence for ${found.label}`;
  part("pictures").append(figure(found.overlay, words, `Heat map: ${words}`));
  part("alike").hidden = !found.neighbours.length;
  for (const other of found.neighbours) {
    const words = `${other.label}, similarity ${other.cosine.toFixed(2)}`;
    part("neighbours").append(figure(other.thumbnail, words, `Training image of ${other.label}`));
  }
  part("why").hidden = !found.note;
  part("why").textContent = found.note;
}

function refuse(card, problem) {
  card.classList.add("failed");
  card.querySelector(".predicted").textContent = problem.title;
  const note = card.querySelector(".note");
  note.hidden = false;
  note.textContent = `${problem.detail} What to do: ${problem.remedy}`;
}

async function send(files) {
  const [file] = files;
  at("status").textContent = `Looking at ${file.name || "the image"} …`;
  const card = at("card").content.cloneNode(true).querySelector("article");
  card.querySelector(".file").textContent = file.name || "pasted image";
  const image = card.querySelector(".given img");
  image.onload = () => URL.revokeObjectURL(image.src);
  image.onerror = () => card.querySelector(".given").remove(); // a format that this browser cannot show
  image.alt = "The image you sent";
  const form = new FormData();
  for (const one of files) form.append("image", one, one.name || "pasted");
  try {
    const explain = model && model.explains ? "&explain=true" : "";
    const answer = await ask("v1/predict?top=5" + explain, { method: "POST", body: form });
    image.src = URL.createObjectURL(file);
    fill(card, answer.results[0]);
    at("status").textContent = "";
  } catch (error) {
    card.querySelector(".given").remove();
    refuse(card, unreachable(error));
    at("status").textContent = `${file.name || "The image"} could not be classified.`;
  }
  at("answers").prepend(card);
}

// For a classifier of clips, files chosen together are the frames of one clip
function take(files) {
  const parts = model && model.facts.clip && files.length ? [files] : files.map((file) => [file]);
  for (const part of parts) waiting = waiting.then(() => send(part));
}

for (const id of ["files", "camera"]) {
  at(id).addEventListener("change", (event) => {
    take([...event.target.files]);
    event.target.value = "";
  });
}
document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
document.addEventListener("dragleave", () => at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  take([...event.dataTransfer.files]);
});
at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  meet();
});
meet();
