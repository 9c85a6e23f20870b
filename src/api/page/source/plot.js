// Lines over time, by uPlot.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { figure, tick } from "./format.js";
import { html } from "./html.js";

/** The colour that a CSS variable has in the present theme. */
function colour(element, name) {
  element.style.setProperty("--probe", `var(--${name})`);
  return getComputedStyle(element).outlineColor;
}

const TIME_FORMATS = [
  [86400, "{DD}/{MM}", null, null, null, null, null, null, 1],
  [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
  [1, ":{ss}", "\n{HH}:{mm}", null, null, null, null, null, 1],
];

/**
 * `times`: seconds since 1970, ascending. `series`: [{ label, values, colour }], a value for each time or null; the
 * colours are "line-1" to "line-4". The last values are in the text below the plot, for those who cannot see it.
 */
export function Plot({ title, unit = "", times, series, show = figure, from, to, height = 170 }) {
  const place = useRef(null);
  const plot = useRef(null);
  const labels = series.map(({ label }) => label).join();
  useEffect(() => {
    const element = place.current;
    const axis = () => colour(element, "quiet");
    const grid = { stroke: () => colour(element, "edge"), width: 1 };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { show: false }, x: false, y: false },
        scales: {
          x: { range: (_plot, least, most) => [element.from ?? least, element.to ?? most] },
          y: { range: (_plot, least, most) => (least === null ? [0, 1] : uPlot.rangeNum(Math.min(0, least), Math.max(0, most) || 1, 0.1, true)) },
        },
        series: [
          {},
          ...series.map(({ label, colour: name }) => ({
            label,
            stroke: () => colour(element, name),
            width: 1.5,
            points: { show: false },
            spanGaps: false,
          })),
        ],
        axes: [
          { stroke: axis, grid, ticks: grid, values: TIME_FORMATS, space: 60 },
          { stroke: axis, grid, ticks: grid, size: 60, values: (_plot, values) => values.map(tick) },
        ],
      },
      null,
      element,
    );
    plot.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    resize.observe(element);
    const redraw = () => made.redraw(false);
    document.addEventListener("themechange", redraw);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", redraw);
    return () => {
      resize.disconnect();
      document.removeEventListener("themechange", redraw);
      scheme.removeEventListener("change", redraw);
      made.destroy();
    };
  }, [labels]);
  useEffect(() => {
    place.current.from = from;
    place.current.to = to;
    plot.current.setData([times, ...series.map(({ values }) => values)]);
  }, [times, ...series.map(({ values }) => values)]);
  const last = (values) => values.findLast((value) => value !== null && value !== undefined);
  return html`<figure class="plot">
    <figcaption>
      <b>${title}</b>
      ${series.map(
        ({ label, values, colour: name }) => html`<span class="key"
          ><i class=${name} aria-hidden="true"></i>${label} <b>${show(last(values))}</b>${unit && ` ${unit}`}</span
        >`,
      )}
    </figcaption>
    <div ref=${place} class="canvas" aria-hidden="true"></div>
  </figure>`;
}
