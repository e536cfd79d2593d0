// Mounts the page that the server's frame names. Every page is in one bundle: together they are smaller than one icon font.
import { type ComponentType, render } from "preact";
import { LogsPage } from "./views/logs.tsx";
import { StatusPage } from "./views/status.tsx";
import { TracePage } from "./views/trace.tsx";
import { TracesPage } from "./views/traces.tsx";

const PAGES: Readonly<Record<string, ComponentType>> = { traces: TracesPage, trace: TracePage, logs: LogsPage, status: StatusPage };

const main = document.getElementById("main");
const Page = PAGES[main?.dataset.page ?? ""];
if (main !== null && Page !== undefined) {
  main.replaceChildren();
  render(<Page />, main);
}
