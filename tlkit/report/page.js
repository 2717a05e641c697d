// Sort tables, and open everything for printing. Without this script every table is still complete, in class order.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const numeric = head.classList.contains("num");
      const compare = (a, b) =>
        numeric ? (Number(a) || 0) - (Number(b) || 0) : a.localeCompare(b, undefined, { numeric: true });
      const known = (row) => !numeric || key(row) !== "";
      const rows = [...table.tBodies[0].rows];
      const sorted = rows.filter(known).sort((a, b) => (down ? -1 : 1) * compare(key(a), key(b)));
      table.tBodies[0].append(...sorted, ...rows.filter((row) => !known(row)));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
}
for (const row of document.querySelectorAll("[data-curve]")) {
  const light = (on) => () => {
    for (const line of document.querySelectorAll(`#curves .curve-${row.dataset.curve}`)) {
      line.classList.toggle("lit", on);
      if (on) line.parentNode.append(line);
    }
  };
  for (const event of ["pointerenter", "focus"]) row.addEventListener(event, light(true));
  for (const event of ["pointerleave", "blur"]) row.addEventListener(event, light(false));
}
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const part of closed) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of closed) part.open = false;
});
