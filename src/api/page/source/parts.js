// What all tabs are made of.
import { useId } from "preact/hooks";
import { html } from "./html.js";
import { time } from "./format.js";

/** What went wrong, read out at once by a screen reader. */
export function Failure({ error }) {
  if (!error) return null;
  const code = error.code ? html` <code>${error.code}</code>` : null;
  return html`<p class="failure" role="alert">${error.message}${code}</p>`;
}

/** A heading, and what belongs to it. */
export function Section({ title, tools, children }) {
  return html`<section>
    <header><h2>${title}</h2>${tools && html`<div class="tools">${tools}</div>`}</header>
    ${children}
  </section>`;
}

/**
 * `columns`: [{ title, cell: (row) => …, number, wide }]; numbers are on the right, wide texts break. `rows`: null while they are unknown.
 * A table that is wider than the page scrolls by itself, with the keyboard too.
 */
export function Table({ label, columns, rows, keyOf, empty = "There is none." }) {
  if (rows === null || rows === undefined) return html`<p class="quiet">Loading …</p>`;
  if (rows.length === 0) return html`<p class="quiet">${empty}</p>`;
  return html`<div class="scroll" role="region" aria-label=${label} tabindex="0">
    <table>
      <thead>
        <tr>${columns.map(({ title, number }) => html`<th scope="col" class=${number ? "number" : ""}>${title}</th>`)}</tr>
      </thead>
      <tbody>
        ${rows.map(
          (row, index) => html`<tr key=${keyOf ? keyOf(row) : index}>
            ${columns.map(({ cell, number, wide }) => html`<td class=${number ? "number" : wide ? "wide" : ""}>${cell(row)}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** The list of `usePages` as a table, with a button for the next page. */
export function PagedTable({ pages, ...table }) {
  return html`<${Failure} error=${pages.error} />
    ${(pages.items !== null || !pages.error) && html`<${Table} ...${table} rows=${pages.items} />`}
    ${pages.more &&
    html`<button type="button" disabled=${pages.loading} onClick=${pages.next}>Older</button>`}`;
}

/** Names and values, such as those of one wallet: [[name, value], …]. */
export function Facts({ of }) {
  return html`<dl class="facts">${of.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** A link to what is known of one player. */
export function Player({ id }) {
  return html`<a href=${`#/player/${encodeURIComponent(id)}`}>${id}</a>`;
}

/** A state as a word with a colour: `good`, `bad`, `warn` or none. */
export function Badge({ tone = "", children }) {
  return html`<span class=${`badge ${tone}`}>${children}</span>`;
}

/** A field with its label. `options`: [[value, text], …] makes it a choice. */
export function Field({ label, value, onInput, options, type = "text", hint, ...rest }) {
  const id = useId();
  const change = (event) => onInput(event.target.value);
  const common = { id, value, "aria-describedby": hint ? `${id}-hint` : undefined, ...rest };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${options
      ? html`<select ...${common} onChange=${change}>
          ${options.map(([key, text]) => html`<option value=${key} selected=${key === value}>${text}</option>`)}
        </select>`
      : html`<input type=${type} autocomplete="off" spellcheck=${false} ...${common} onInput=${change} />`}
    ${hint && html`<small id=${`${id}-hint`}>${hint}</small>`}
  </div>`;
}

/** A time that a screen reader and a mouse can read exactly. */
export function Time({ us }) {
  if (us === null || us === undefined) return "—";
  return html`<time datetime=${new Date(Number(us) / 1000).toISOString()}>${time(us)}</time>`;
}

/** A long text on a line of its own, with a button that copies it. */
export function Copyable({ text, label = "Copy" }) {
  return html`<span class="copyable"><code>${text}</code>
    ${navigator.clipboard && html`<button type="button" class="small" onClick=${() => navigator.clipboard.writeText(text)}>${label}</button>`}
  </span>`;
}

/** Offers `text` as a file. */
export function download(name, text, type = "application/json") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
