// Builds src/crore/report/page/plot.min.js, with the licences at its head, and its card plot.toml.
// Run by hand when Plot is renewed: npm ci --ignore-scripts && node build.mjs
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { build } from "esbuild";

// What the page never draws: maps, colours by name and their legends, dates, tips, bent lines.
// A third of Plot.
const geo = ["AlbersUsa", "Albers", "AzimuthalEqualArea", "AzimuthalEquidistant", "Centroid", "ClipRectangle",
  "ConicConformal", "ConicEqualArea", "ConicEquidistant", "EqualEarth", "Equirectangular", "Gnomonic", "Graticule10",
  "Mercator", "NaturalEarth1", "Orthographic", "Path", "Stereographic", "Stream", "TransverseMercator"];
const schemes = ["maybeBooleanRange", "ordinalRange", "ordinalScheme", "quantitativeScheme"];
const refusing = (names) =>
  `const left = () => { throw new Error("left out of this bundle"); };
   export { ${names.map((name) => `left as ${name}`).join(", ")} };`;
const leftOut = [
  [/d3-geo[/]dist[/]d3-geo\.mjs$/, `${refusing(geo.map((name) => `geo${name}`))}
   export const geoTransform = (identity) => identity; // made once, never used`],
  [/d3-time-format[/]dist[/]d3-time-format\.mjs$/, refusing(["timeFormat", "utcFormat"])],
  [/plot[/]src[/]marks[/]tip\.js$/, refusing(["Tip", "tip"])],
  [/plot[/]src[/]interactions[/]pointer\.js$/, refusing(["pointer", "pointerX", "pointerY"])],
  [/plot[/]src[/]time\.js$/, `${refusing(["generalizeTimeInterval", "inferTimeFormat", "parseTimeInterval", "timeInterval", "utcInterval"])}
   export const intervalDuration = Symbol(), intervalType = Symbol();`],
  [/plot[/]src[/]scales[/]temporal\.js$/, refusing(["createScaleTime", "createScaleUtc"])],
  [/plot[/]src[/]curve\.js$/, `import { curveLinear } from "d3";
   export const curveAuto = (context) => curveLinear(context);
   export const maybeCurve = () => curveLinear, maybeCurveAuto = () => curveAuto;`],
  [/plot[/]src[/]legends\.js$/, "export const createLegends = () => [], exposeLegends = () => null, legend = null;"],
  [/plot[/]src[/]scales[/]schemes\.js$/, `${refusing(schemes)}
   export const isCategoricalScheme = () => false, isDivergingScheme = () => false;`],
];
const leave = {
  name: "leave out",
  setup: (builder) => leftOut.forEach(([filter, contents]) =>
    builder.onLoad({ filter }, ({ path }) => ({ contents, resolveDir: dirname(path) }))),
};

const page = new URL("../../src/crore/report/page/", import.meta.url);
const { outputFiles, metafile } = await build({
  entryPoints: ["entry.js"],
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "Plot",
  target: "es2020",
  legalComments: "none",
  plugins: [leave],
  metafile: true,
  write: false,
});

// What is inside: the packages that gave at least a byte.
const parts = Object.entries(Object.values(metafile.outputs)[0].inputs);
const ours = (path) => leftOut.some(([filter]) => filter.test(path));
const used = parts.filter(([path, part]) => part.bytesInOutput > 0 && !ours(path)).map(([path]) => path);
const folders = new Set(used.flatMap((path) => path.match(/^node_modules\/(?:@[^/]+\/)?[^/]+/) ?? []));
const seen = new Set();
const packages = [...folders].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = ["LICENSE", "LICENSE.md", "LICENSE.txt"].find((f) => existsSync(`${folder}/${f}`));
  if (!file) throw new Error(`${name} comes without its licence`);
  const own = readFileSync(`${folder}/${file}`, "utf8").trim().split(/\n\s*\n/);
  const text = own.filter((paragraph) => paragraph.startsWith("Copyright") || !seen.has(paragraph));
  own.forEach((paragraph) => seen.add(paragraph));
  return { name, version, license, text: text.join("\n\n") };
});

const licences = packages.map((p) => `${p.name} ${p.version} (${p.license})\n\n${p.text}\n`).join("\n");
const head = "Observable Plot and what it needs. A paragraph that several licences share stands once.";
const code = `/*! ${head}\n\n${licences}*/\n${outputFiles[0].text}`;
if (/<\/script|<!--/i.test(code)) throw new Error("the bundle would end the script it stands in");
const sha256 = createHash("sha256").update(code).digest("hex");
const plot = packages.find(({ name }) => name === "@observablehq/plot");
writeFileSync(new URL("plot.min.js", page), code);
writeFileSync(
  new URL("plot.toml", page),
  `# Observable Plot as the page carries it; written by tools/plot/build.mjs.
name = "${plot.name}"
version = "${plot.version}"
license = "ISC" # the texts head the file
sha256 = "${sha256}"
bytes = ${Buffer.byteLength(code)}
build = "cd tools/plot && npm ci --ignore-scripts && node build.mjs"
inside = [
${packages.map((p) => `  "${p.name} ${p.version} ${p.license}",\n`).join("")}]
`,
);
console.log(`plot.min.js: ${Buffer.byteLength(code)} bytes, ${packages.length} packages`);
