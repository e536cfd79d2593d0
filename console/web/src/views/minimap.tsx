// The whole trace on one canvas; dragging over it zooms. Hidden from assistive technology: the buttons beside do the same.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Tree } from "../lib/tree.ts";
import type { Zoom } from "./waterfall.tsx";

const HEIGHT = 44;
const SMALLEST_DRAG = 0.005;

export function Minimap({ tree, zoom, onZoom }: { tree: Tree; zoom: Zoom; onZoom: (zoom: Zoom) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [drag, setDrag] = useState<readonly [number, number] | null>(null);
  useEffect(() => {
    const element = canvas.current as HTMLCanvasElement;
    const redraw = () => draw(element, tree);
    const observer = new ResizeObserver(redraw);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    observer.observe(element);
    scheme.addEventListener("change", redraw);
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", redraw);
    };
  }, [tree]);
  const at = (event: PointerEvent) => {
    const { left, width } = (canvas.current as HTMLCanvasElement).getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - left) / width));
  };
  const finish = () => {
    if (drag !== null) {
      const [low, high] = [Math.min(...drag), Math.max(...drag)];
      if (high - low >= SMALLEST_DRAG) onZoom({ from: low * tree.length, length: (high - low) * tree.length });
    }
    setDrag(null);
  };
  const shown = drag ?? [zoom.from / tree.length, (zoom.from + zoom.length) / tree.length];
  return (
    <div
      class="minimap"
      aria-hidden="true"
      onPointerDown={(event) => { event.currentTarget.setPointerCapture(event.pointerId); setDrag([at(event), at(event)]); }}
      onPointerMove={(event) => drag !== null && setDrag([drag[0], at(event)])}
      onPointerUp={finish}
      onPointerCancel={() => setDrag(null)}
    >
      <canvas ref={canvas} height={HEIGHT} />
      <span class="minimap-shade" style={{ left: "0", width: `${Math.min(...shown) * 100}%` }} />
      <span class="minimap-shade" style={{ left: `${Math.max(...shown) * 100}%`, right: "0" }} />
    </div>
  );
}

function draw(canvas: HTMLCanvasElement, tree: Tree): void {
  const scale = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = HEIGHT * scale;
  const context = canvas.getContext("2d");
  if (context === null) return;
  const styles = getComputedStyle(canvas);
  context.scale(scale, scale);
  context.fillStyle = styles.getPropertyValue("--bar-quiet");
  const line = (HEIGHT - 6) / Math.max(tree.rows.length, 6);
  const failed = styles.getPropertyValue("--error");
  const calm = styles.getPropertyValue("--bar-quiet");
  for (const row of tree.rows) {
    context.fillStyle = row.span.status === "Error" ? failed : calm;
    context.fillRect((row.offset / tree.length) * width, 3 + row.index * line, Math.max(1, (row.duration / tree.length) * width), Math.max(1, line - 1));
  }
}
