// Labelling by keyboard: the images to label are in #work; the labels are saved as a table of images.
const work = JSON.parse(document.getElementById("work").textContent);
const find = (id) => document.getElementById(id);
const KEYS = "123456789abcdefghijklmnopqrstuvwxyz";
const classes = [...work.classes];
let labels = work.images.map(() => "");
let at = 0;

// Labelling and saving also work in a browser without storage for local files.
const memory = {
  name: `tlkit-next-${work.key}`,
  read() {
    try {
      return JSON.parse(localStorage.getItem(this.name));
    } catch {
      return null;
    }
  },
  write() {
    try {
      localStorage.setItem(this.name, JSON.stringify(labels));
    } catch {
      return;
    }
  },
};

// A cell as tlkit writes it: no spreadsheet runs it as a formula, and it reads back unchanged.
function cell(text) {
  const number = /^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$/;
  const safe = /^'*[=+\-@\t\r]/.test(text) && !number.test(text) ? "'" + text : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function table() {
  const now = work.images.map((image, i) => [image.path, labels[i]]).filter(([, label]) => label);
  return [["path", "label"], ...work.known, ...now].map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  link.download = "labels.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  find("saved").textContent = `${labels.filter(Boolean).length} new labels and ${work.known.length} known ones`;
}

function give(label) {
  if (label && !classes.includes(label)) classes.push(label);
  labels[at] = label;
  memory.write();
  if (label) at = Math.min(at + 1, labels.length - 1);
  show();
}

function go(step) {
  at = Math.min(Math.max(at + step, 0), labels.length - 1);
  show();
}

function show() {
  const image = work.images[at];
  const done = labels.filter(Boolean).length;
  find("where").textContent = `Image ${at + 1} of ${labels.length}, ${done} with a label`;
  find("shown").src = image.picture || "data:,";
  find("shown").alt = image.picture ? "The image to label" : "no preview";
  find("path").textContent = image.path;
  const share = `${Math.round(100 * image.probability)} %`;
  find("guess").textContent = image.guess ? `The model guesses ${image.guess} (${share}).` : "";
  find("classes").replaceChildren(
    ...classes.map((name, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = KEYS[i] ? `${KEYS[i]}  ${name}` : name;
      button.setAttribute("aria-pressed", String(labels[at] === name));
      if (labels[at] === name) button.style.outline = "2px solid var(--first)";
      button.addEventListener("click", () => give(name));
      return button;
    }),
  );
  find("names").replaceChildren(
    ...classes.map((name) => Object.assign(document.createElement("option"), { value: name })),
  );
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey && event.key === "s") {
    event.preventDefault();
    return save();
  }
  const typing = event.target === find("named");
  if (typing && event.key === "Escape") return find("named").blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.tagName === "BUTTON" && (event.key === "Enter" || event.key === " ")) return;
  const place = KEYS.indexOf(event.key.toLowerCase());
  if (event.key === "Enter" && work.images[at].guess) give(work.images[at].guess);
  else if (event.key === " " || event.key === "ArrowRight") go(1);
  else if (event.key === "ArrowLeft") go(-1);
  else if (event.key === "Backspace") give("");
  else if (event.key === "+") find("named").focus();
  else if (place >= 0 && place < classes.length) give(classes[place]);
  else return;
  event.preventDefault();
});
find("more").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = find("named").value.trim();
  find("named").value = "";
  find("named").blur();
  if (name) give(name);
});
find("save").addEventListener("click", save);
const kept = memory.read();
if (kept?.length === labels.length) {
  labels = kept;
  for (const name of labels) if (name && !classes.includes(name)) classes.push(name);
  at = Math.max(labels.indexOf(""), 0);
}
show();
