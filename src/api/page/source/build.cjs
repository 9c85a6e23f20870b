// Builds the page: `node build.cjs FOLDER` writes the index, and a script and a style named by their hashes.
// The licences of the libraries in the script are a file of their own, which the script names: browsers load it only if asked.
// The same sources and the same package-lock.json give the same bytes.
const { createHash } = require("node:crypto");
const { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } = require("node:fs");
const { basename, join } = require("node:path");
const esbuild = require("esbuild");

const folder = process.argv[2];
const modules = (process.env.NODE_PATH ?? "").split(":");
const { dependencies } = require("./package.json");
const licences = Object.entries(dependencies)
  .map(([name, version]) => `${name} ${version}\n\n${readFileSync(join(modules[0], name, "LICENSE"), "utf8").trim()}\n`)
  .join(`\n${"-".repeat(80)}\n\n`);
const notices = `licences-${createHash("sha256").update(licences).digest("hex").slice(0, 8)}.txt`;
const result = esbuild.buildSync({
  absWorkingDir: __dirname,
  entryPoints: ["main.js"],
  bundle: true,
  minify: true,
  charset: "utf8",
  format: "esm",
  target: ["es2022"],
  legalComments: "none", // the banner names the file that has them all
  banner: { js: `/* Contains ${Object.keys(dependencies).join(", ")}; their licences: /admin/assets/${notices} */` },
  entryNames: "page-[hash]",
  outdir: "/",
  nodePaths: modules,
  write: false,
  logLevel: "warning",
});
mkdirSync(folder, { recursive: true });
for (const name of readdirSync(folder)) rmSync(join(folder, name));
writeFileSync(join(folder, notices), licences);
let index = readFileSync(join(__dirname, "index.html"), "utf8");
for (const { path, contents } of result.outputFiles) {
  const name = basename(path);
  writeFileSync(join(folder, name), contents);
  index = index.replace(name.endsWith(".js") ? "{script}" : "{style}", `/admin/assets/${name}`);
}
writeFileSync(join(folder, "index.html"), index);
