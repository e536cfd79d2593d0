// Bundles src/main.tsx and its style sheet into the package, and writes which hashed file is which.
import { build } from "esbuild";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

const STATIC = "../farcall_console/static";
const OUT = join(STATIC, "build");

await mkdir(OUT, { recursive: true });
const result = await build({
  entryPoints: { app: "src/main.tsx", style: "src/styles/main.css" },
  bundle: true,
  minify: true,
  sourcemap: process.argv.includes("--sourcemap"),
  target: "es2022",
  format: "esm",
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]-[hash]",
  outdir: OUT,
  metafile: true,
  logLevel: "warning",
});

const manifest = {};
for (const [path, output] of Object.entries(result.metafile.outputs)) {
  if (output.entryPoint === "src/main.tsx") manifest["app.js"] = `build/${basename(path)}`;
  if (output.entryPoint === "src/styles/main.css") manifest["app.css"] = `build/${basename(path)}`;
}
const fresh = new Set(Object.keys(result.metafile.outputs).map((path) => basename(path)));
for (const name of await readdir(OUT)) {
  if (!fresh.has(name) && name !== "manifest.json") await rm(join(OUT, name));
}
// Last: a manifest that exists names files that exist.
await writeFile(join(OUT, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
