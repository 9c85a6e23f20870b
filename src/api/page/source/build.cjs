// Builds the page: `node build.cjs FOLDER` writes the index, and a script and a style named by their hashes.
// The same sources and the same package-lock.json give the same bytes.
const { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } = require("node:fs");
const { basename, join } = require("node:path");
const esbuild = require("esbuild");

const folder = process.argv[2];
const result = esbuild.buildSync({
  absWorkingDir: __dirname,
  entryPoints: ["main.js"],
  bundle: true,
  minify: true,
  charset: "utf8",
  format: "esm",
  target: ["es2022"],
  legalComments: "none",
  entryNames: "page-[hash]",
  outdir: "/",
  nodePaths: (process.env.NODE_PATH ?? "").split(":"),
  write: false,
  logLevel: "warning",
});
mkdirSync(folder, { recursive: true });
for (const name of readdirSync(folder)) rmSync(join(folder, name));
let index = readFileSync(join(__dirname, "index.html"), "utf8");
for (const { path, contents } of result.outputFiles) {
  const name = basename(path);
  writeFileSync(join(folder, name), contents);
  index = index.replace(name.endsWith(".js") ? "{script}" : "{style}", `/admin/assets/${name}`);
}
writeFileSync(join(folder, "index.html"), index);
