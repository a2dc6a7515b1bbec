"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const options = { responsive: true, displayModeBar: false };

  // Colours of the page stand in a chart as var(--name).
  const themed = (chart) => {
    const style = getComputedStyle(document.documentElement);
    return JSON.parse(JSON.stringify(chart).replace(/var\((--[a-z-]+)\)/g, (whole, name) => style.getPropertyValue(name).trim() || whole));
  };
  const draw = (element, chart) => {
    const { data: traces, layout } = themed(chart);
    return Plotly.react(element, traces, layout, options);
  };

  const hidden = new Set();
  const drawAll = () => {
    for (const element of document.querySelectorAll(".chart[data-chart]")) {
      const drawn = data.charts[element.dataset.chart];
      const chart = element.dataset.key ? drawn[element.dataset.key] : drawn;
      if (element.dataset.chart === "curves") chart.data.forEach((trace, run) => { trace.visible = !hidden.has(run); });
      draw(element, chart);
    }
    if (data.pairs) drawPair();
  };

  // Two runs side by side.
  const drawPair = () => {
    const { runs, classes, pairs, labels, answers, images } = data.pairs;
    const a = Number($("a").value), b = Number($("b").value);
    const turned = a > b;
    const pair = a === b ? null : pairs[turned ? `${b},${a}` : `${a},${b}`];
    $("words").textContent = pair ? pair.words[turned ? 1 : 0] : "Choose two different runs.";
    if (runs[a].matrix) drawMatrices(runs[a].matrix, runs[b].matrix, classes);
    const sides = pair ? { a: turned ? "b" : "a", b: turned ? "a" : "b" } : null;
    for (const [side, right, wrong] of [["b", b, a], ["a", a, b]]) {
      const list = $(`only-${side}`), count = pair ? pair[`only_${sides[side]}`] : 0;
      const shown = pair ? pair[sides[side]] : [];
      const letter = side.toUpperCase(), other = side === "a" ? "B" : "A";
      $(`only-${side}-title`).textContent = pair ? `Only ${letter} is right: ${count.toLocaleString("en")} image${count === 1 ? "" : "s"}${count > shown.length ? `; shown are those on which ${other} is most confident` : ""}` : "";
      list.replaceChildren(...shown.map((index) => picture(index, classes[labels[index]], answers[index][right], answers[index][wrong], letter, other, classes, images[index])));
    }
  };
  const drawMatrices = (a, b, classes) => {
    const most = Math.max(...a.flat(), ...b.flat());
    matrix("matrix-a", "A", a, classes, [[0, "var(--panel)"], [1, "#0072B2"]], 0, most);
    matrix("matrix-b", "B", b, classes, [[0, "var(--panel)"], [1, "#0072B2"]], 0, most);
    const difference = b.map((row, i) => row.map((count, j) => count - a[i][j]));
    const widest = Math.max(1, ...difference.flat().map(Math.abs));
    matrix("matrix-difference", "B − A", difference, classes, [[0, "#0072B2"], [0.5, "var(--panel)"], [1, "#D55E00"]], -widest, widest);
  };
  const picture = (index, label, right, wrong, letter, other, classes, source) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    if (source) {
      const image = document.createElement("img");
      image.src = source;
      image.alt = `test image ${index}: ${label}`;
      figure.append(image);
    } else {
      const blank = document.createElement("div");
      blank.className = "blank";
      blank.textContent = `image ${index}`;
      figure.append(blank);
    }
    const line = (text, kind) => {
      const part = document.createElement(kind === "b" ? "b" : "span");
      if (kind === "wrong") part.className = "wrong";
      part.textContent = text;
      caption.append(part, document.createElement("br"));
    };
    line(label, "b");
    line(`${letter}: ${classes[right[0]]} ${right[1].toFixed(2)}`);
    line(`${other}: ${classes[wrong[0]]} ${wrong[1].toFixed(2)}`, "wrong");
    figure.append(caption);
    return figure;
  };
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const matrix = (id, title, values, classes, colours, low, high) => {
    const names = classes.map(escaped), digits = String(Math.max(...values.flat().map(Math.abs))).length;
    const long = Math.max(...classes.map((name) => name.length)) > 2;
    draw($(id), {
      data: [{
        type: "heatmap", x: names, y: names, z: values, zmin: low, zmax: high, colorscale: colours, showscale: false, xgap: 1, ygap: 1,
        text: values.map((row) => row.map((count) => (count ? String(count) : ""))), texttemplate: "%{text}", textfont: { size: digits > 3 ? 9 : 10 },
        hovertemplate: "true %{y}, predicted %{x}: %{z}<extra></extra>",
      }],
      layout: {
        height: 380, margin: { l: 30, r: 10, t: 36, b: 30 }, title: { text: title, x: 0, xref: "paper", font: { size: 14 }, y: 0.98, yanchor: "top" },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: 11, color: "var(--text)" },
        hoverlabel: { bgcolor: "var(--panel)", bordercolor: "var(--muted)", font: { color: "var(--text)" } },
        xaxis: { type: "category", tickangle: long ? -45 : 0, automargin: true, showgrid: false, fixedrange: true },
        yaxis: { type: "category", autorange: "reversed", automargin: true, showgrid: false, fixedrange: true },
      },
    });
  };

  // The legend of the curves.
  const legend = $("legend");
  const show = () => {
    for (const button of legend.children) button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.run))));
    for (const element of document.querySelectorAll('.chart[data-chart="curves"]')) {
      Plotly.restyle(element, { visible: element.data.map((trace, run) => !hidden.has(run)) });
    }
  };
  if (legend) {
    for (const button of legend.children) {
      const run = Number(button.dataset.run);
      button.addEventListener("click", () => { if (!hidden.delete(run)) hidden.add(run); show(); });
      button.addEventListener("dblclick", () => {
        const alone = hidden.size === legend.children.length - 1 && !hidden.has(run);
        hidden.clear();
        if (!alone) for (let other = 0; other < legend.children.length; other++) if (other !== run) hidden.add(other);
        show();
      });
    }
  }

  // A click on a heading sorts its table.
  const key = (row, column) => {
    const text = row.cells[column].textContent, number = parseFloat(text.replace(/^[<+]/, ""));
    return Number.isNaN(number) ? [1, text] : [0, number];
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.addEventListener("click", (event) => {
      const heading = event.target.closest("th");
      if (!heading) return;
      const up = heading.getAttribute("aria-sort") === "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const column = heading.cellIndex, rows = [...table.tBodies[0].rows];
      rows.sort((one, other) => {
        const [k, x] = key(one, column), [l, y] = key(other, column);
        const order = k !== l ? k - l : k ? x.localeCompare(y) : x - y;
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  }

  // In MLflow's artifact viewer a link to a part of this page would open MLflow instead.
  for (const link of document.querySelectorAll("nav a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      document.querySelector(link.getAttribute("href")).scrollIntoView();
    });
  }

  if (data.pairs) for (const id of ["a", "b"]) $(id).addEventListener("change", drawPair);
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
