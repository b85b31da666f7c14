"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const read = (id) => { const at = document.getElementById(id); return at ? JSON.parse(at.textContent) : null; };
  const charts = read("charts") || {};
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // Pictures. The expressions of a specification are interpreted (ast), never compiled: the page forbids eval.
  const drawn = new Map();
  const theme = () => {
    const style = getComputedStyle(document.documentElement);
    const [text, muted, line] = ["--text", "--muted", "--line"].map((name) => style.getPropertyValue(name).trim());
    const labels = { labelColor: muted, titleColor: muted, titleFontWeight: "normal" };
    return {
      background: null, font: "system-ui, sans-serif", view: { stroke: null },
      axis: { ...labels, gridColor: line, domainColor: line, tickColor: line, labelLimit: 160 },
      legend: { ...labels, labelLimit: 0 }, title: { color: text }, text: { color: text },
    };
  };
  // One after the other and when there is time, so that the page itself is there at once.
  let waiting = new Promise((ready) => addEventListener("load", () => setTimeout(ready)));
  const draw = (place, spec) => {
    drawn.set(place, spec);
    delete place.dataset.drawn;
    waiting = waiting.then(() => new Promise((ready) => setTimeout(ready))).then(() => embed(place, spec));
  };
  const embed = (place, spec) => {
    if (drawn.get(place) !== spec) return null;  // another one is wanted there by now
    const options = { renderer: "svg", ast: true, actions: false, config: theme(), tooltip: { theme: "custom" } };
    return window.vegaEmbed(place, spec, options).then(
      () => { place.dataset.drawn = "true"; },
      (error) => { place.classList.add("failed"); place.textContent = `This picture could not be drawn: ${error.message}`; });
  };
  dark.addEventListener("change", () => drawn.forEach((spec, place) => draw(place, spec)));

  // Tables.
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = "sort" in cell.dataset ? cell.dataset.sort : cell.textContent.trim();
    return text !== "" && !isNaN(text) ? Number(text) : text;
  };
  const order = (a, b) => {
    if (a === "" || b === "") return a === b ? 0 : null;
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const sort = (table, head) => {
    const column = [...head.parentNode.cells].indexOf(head), body = table.tBodies[0];
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    rows.sort(([a], [b]) => {
      const found = order(a, b);
      return found === null ? (a === "") - (b === "") : sign * found;  // what is empty comes last
    });
    body.append(...rows.map(([, row]) => row));
  };
  all("table.sortable").forEach((table) => all("thead button", table).forEach((button) =>
    button.addEventListener("click", () => sort(table, button.closest("th")))));
  const filter = (input) => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows];
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    });
    const shown = rows.filter((row) => !row.hidden).length;
    $(`[data-count="${input.dataset.filter}"]`).textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  };
  all("[data-filter]").forEach((input) => { input.addEventListener("input", () => filter(input)); filter(input); });

  all("[data-copy]").forEach((button) => button.addEventListener("click", () => {
    const code = $("code", button.parentNode), range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    const said = (text) => { button.textContent = text; setTimeout(() => { button.textContent = "copy"; }, 1500); };
    if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).then(() => said("copied"), () => said("selected"));
    else said("selected");
  }));

  // A layer's details.
  const layers = read("layer-data");
  const bins = (histogram, name) => {
    const total = histogram.counts.reduce((a, b) => a + b, 0);
    const rows = histogram.counts.map((count, i) => ({
      low: histogram.first + i * histogram.width - 0.5, high: histogram.first + (i + 1) * histogram.width - 0.5, count }));
    const last = histogram.first + histogram.counts.length * histogram.width - 1;
    return { ...charts.histogram, data: { values: rows }, description: `Histogram of the ${name}: ${total} codes from ${histogram.first} to ${last}, ${histogram.width} to a bar: ${histogram.counts.join(", ")}` };
  };
  const show = (number) => {
    const layer = layers[number];
    $("#layer-name").textContent = layer.name;
    $("#layer-facts").replaceChildren(...layer.facts.flatMap(([name, text]) => {
      const [term, data] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      data.textContent = text;
      return [term, data];
    }));
    ["weights", "outputs"].forEach((part) => {
      $(`#figure-${part}`).hidden = !layer[part];
      if (layer[part]) draw($(`#chart-${part}`), bins(layer[part], `${part} of ${layer.name}`));
    });
    all("[aria-current]").forEach((other) => other.removeAttribute("aria-current"));
    all(`a.box[data-layer="${number}"], tr[data-row="${number}"]`).forEach((one) => one.setAttribute("aria-current", "true"));
  };
  if (layers && layers.length) {
    const asked = () => { const found = /^#layer-(\d+)$/.exec(location.hash); return found && found[1] < layers.length ? Number(found[1]) : null; };
    addEventListener("hashchange", () => { if (asked() !== null) show(asked()); });
    all("tr [data-layer]").forEach((link) => link.addEventListener("click", () => $("#details").scrollIntoView({ block: "nearest" })));
    show(asked() ?? 0);
    const cost = $("#cost"), drawCost = () => draw($("#chart-cost"), charts.costs[cost.value]);
    if (cost) {
      cost.addEventListener("change", drawCost);
      drawCost();
    }
  }
  all("[data-chart]").forEach((place) => draw(place, charts[place.dataset.chart]));
  all("[data-pareto]").forEach((place) => draw(place, charts.pareto[place.dataset.pareto]));

  // The difference of two runs, layer by layer.
  const runs = read("run-data"), picks = [$("#pick-a"), $("#pick-b")];
  const cell = (tag, text, number) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (tag === "th") made.scope = "row"; else made.className = "num";
    if (number !== undefined) made.dataset.sort = number;
    return made;
  };
  const shown = (value) => value === undefined ? "" : typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 4 }) : value;
  const change = (what, a, b) => {
    if (a === undefined || b === undefined) return [a === undefined ? "only in B" : "only in A"];
    if (typeof a !== "number" || typeof b !== "number") return [a === b ? "the same" : "differs"];
    if (a === b) return ["the same", 0];
    if (what.endsWith(", dB")) return [`${b > a ? "+" : ""}${(b - a).toFixed(1)} dB`, b - a];  // a ratio already
    const share = a === 0 ? null : 100 * (b - a) / Math.abs(a);
    return [share === null ? `+${shown(b)}` : `${share > 0 ? "+" : ""}${share.toFixed(1)} %`, share ?? Infinity];
  };
  const compare = () => {
    const [a, b] = picks.map((pick) => new Map(runs[pick.value].layers.map((layer) => [layer.name, layer.values])));
    const rows = [];
    for (const name of new Set([...a.keys(), ...b.keys()])) {
      const [one, two] = [a.get(name) ?? {}, b.get(name) ?? {}];
      for (const what of new Set([...Object.keys(one), ...Object.keys(two)])) {
        if ($("#only-changes").checked && one[what] === two[what]) continue;
        const row = document.createElement("tr"), [text, by] = change(what, one[what], two[what]);
        const what_ = cell("td", what);
        what_.className = "";
        row.append(cell("th", name), what_, cell("td", shown(one[what]), one[what]), cell("td", shown(two[what]), two[what]), cell("td", text, by));
        rows.push(row);
      }
    }
    $("#difference").tBodies[0].replaceChildren(...rows);
    $("#difference-count").textContent = rows.length ? `${rows.length} rows` : "nothing differs";
  };
  if (runs && picks[0]) {
    [...picks, $("#only-changes")].forEach((input) => input.addEventListener("change", compare));
    compare();
  }
})();
