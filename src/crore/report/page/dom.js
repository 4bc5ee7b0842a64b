// Elements made by name; text is only ever textContent, so nothing in the sheet can become markup.
const byId = (id) => document.getElementById(id);

function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== ""));
  return element;
}

// { caption, head, rows } -> <table>; the first column names its row.
function tableOf({ caption, head, rows }) {
  const cell = (text, i) => (i === 0 ? h("th", { scope: "row" }, text) : h("td", {}, text));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell))))));
}

function listOf(texts) {
  return h("ul", {}, texts.map((text) => h("li", {}, text)));
}

function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function csvOf({ head, rows }) {
  // A cell that a spreadsheet would run as a formula is kept as text.
  const cell = (text) => `"${text.replace(/^([=+@-])(?![\d.])/, "'$1").replaceAll('"', '""')}"`;
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

// Colours live in the style sheet; a picture that leaves the page takes them along.
function svgText(svg) {
  const copy = svg.cloneNode(true);
  const originals = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, i) => {
    const style = getComputedStyle(originals[i]);
    for (const key of ["fill", "stroke", "font-size", "font-family"]) {
      if (key.startsWith("font") ? element.tagName === "text" : style[key] !== "none" || element.hasAttribute(key))
        element.setAttribute(key, style[key].replaceAll('"', "'"));
    }
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return new XMLSerializer().serializeToString(copy);
}
