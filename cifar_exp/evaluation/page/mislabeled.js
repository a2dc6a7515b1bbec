"use strict";
const list = document.getElementById("list");
const cards = [...list.querySelectorAll("fieldset")];
const columns = JSON.parse(list.dataset.columns);
const decision = (card) => card.querySelector("input:checked")?.value ?? "";

function csv() {
  const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`;
  const rows = cards.map((card) => ({ ...JSON.parse(card.dataset.row), decision: decision(card) }));
  return [columns, ...rows.map((row) => columns.map((name) => row[name]))]
    .map((row) => row.map(quoted).join(",") + "\r\n").join("");
}

function count() {
  const decided = cards.map(decision);
  const of = (value) => decided.filter((one) => one === value).length;
  document.getElementById("count").textContent =
    `${of("confirm")} confirmed, ${of("dismiss")} dismissed, ${of("")} open`;
}

list.addEventListener("change", count);
document.getElementById("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "mislabeled.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
count();
