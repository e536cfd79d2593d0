// Which rows of a long list are on the screen: @tanstack/virtual-core bound to a Preact component.
import { defaultRangeExtractor, elementScroll, observeElementOffset, observeElementRect, type VirtualItem, Virtualizer } from "@tanstack/virtual-core";
import type { RefObject } from "preact";
import { useLayoutEffect, useReducer, useState } from "preact/hooks";

interface VirtualOptions {
  readonly count: number;
  readonly rowHeight: number;
  readonly overscan: number;
  readonly scroller: RefObject<HTMLElement | null>;
  readonly paddingStart: number; // a header that sticks inside the scroller
  readonly keep: number; // this row stays in the document wherever the list is scrolled: it holds the focus
}

export interface VirtualRows {
  readonly items: readonly VirtualItem[];
  readonly height: number;
  readonly scrollTo: (index: number) => void;
}

export function useVirtualRows(options: VirtualOptions): VirtualRows {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const settings = {
    count: options.count,
    getScrollElement: () => options.scroller.current,
    estimateSize: () => options.rowHeight,
    overscan: options.overscan,
    scrollPaddingStart: options.paddingStart,
    scrollPaddingEnd: options.rowHeight,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: redraw as () => void,
    rangeExtractor: (range: Parameters<typeof defaultRangeExtractor>[0]) => {
      const indexes = defaultRangeExtractor(range);
      if (options.keep < 0 || options.keep >= options.count || indexes.includes(options.keep)) return indexes;
      return [...indexes, options.keep].sort((a, b) => a - b);
    },
  };
  const [virtualizer] = useState(() => new Virtualizer<HTMLElement, HTMLElement>(settings));
  virtualizer.setOptions(settings);
  useLayoutEffect(() => virtualizer._didMount(), []);
  useLayoutEffect(() => virtualizer._willUpdate());
  return {
    items: virtualizer.getVirtualItems(),
    height: virtualizer.getTotalSize(),
    scrollTo: (index) => virtualizer.scrollToIndex(index, { align: "auto" }),
  };
}
