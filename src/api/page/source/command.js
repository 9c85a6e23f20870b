// The dialog that every change goes through: it shows the exact request, asks once, and repeats the same one if its
// answer was lost.
import { useEffect, useRef, useState } from "preact/hooks";
import { money, parseMoney } from "./format.js";
import { html } from "./html.js";
import { Failure, Field } from "./parts.js";
import { send } from "./session.js";

let show = null;

/** An id that no other command has. */
export function newId(prefix = "page") {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `${prefix}-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * Asks for a command. `command`: its type, user_id and further members; the `command_id` is made here, and stays the
 * same for each attempt. `fields`: what the user adds:
 *   { name, label, kind, asset, options, required, value }, of the kinds "text", "money", "limit" (money, or "none"),
 *   "integer", "list" (of words), "prefixed" (`prefix` is put before the text) and "choice" (`integer`: of numbers)
 * `onDone(result)` is called after it was accepted; `result.position` is what later reads should wait for.
 */
export function askCommand({ title, about, command, fields = [], danger = false, onDone }) {
  const body = { type: command.type, command_id: newId(), ...command };
  show({ title, about, method: "POST", path: "/v1/commands", body, fields, danger, onDone, verb: "Send command" });
}

/** The same for a request that is no command. `again`: whether it may be sent again if its answer was lost. */
export function askRequest({ title, about, method, path, body, fields = [], danger = false, onDone, again = false, Result }) {
  show({ title, about, method, path, body, fields, danger, onDone, again, Result, verb: "Send" });
}

function valueOf(field, text) {
  if (field.kind === "money") return text.trim() === "" ? undefined : (parseMoney(text, field.asset) ?? NaN);
  if (field.kind === "list") return text.trim() === "" ? undefined : text.split(/[\s,]+/).filter(Boolean);
  if (field.kind === "integer") return text.trim() === "" ? undefined : /^\d{1,15}$/.test(text.trim()) ? Number(text) : NaN;
  if (field.kind === "limit") {
    if (text.trim() === "none") return null;
    return text.trim() === "" ? undefined : (parseMoney(text, field.asset) ?? NaN);
  }
  if (field.kind === "prefixed") return text.trim() === "" ? undefined : field.prefix + text.trim();
  if (field.integer && text !== "") return Number(text);
  return text === "" ? undefined : text;
}

function Ask({ asked, close }) {
  const dialog = useRef(null);
  const [texts, setTexts] = useState(() => Object.fromEntries(asked.fields.map((field) => [field.name, field.value ?? ""])));
  const [state, setState] = useState({ step: "ask", error: null, result: null });
  useEffect(() => dialog.current.showModal(), []);
  const body = asked.body === undefined && asked.fields.length === 0 ? undefined : { ...asked.body };
  let whole = true;
  for (const field of asked.fields) {
    const value = valueOf(field, texts[field.name]);
    if (value !== undefined) body[field.name] = value;
    if (Number.isNaN(value) || (field.required && value === undefined)) whole = false;
  }
  const lost = state.step === "lost";
  const submit = async (event) => {
    event.preventDefault();
    setState({ step: "sending", error: null, result: null });
    try {
      const result = await send(asked.method, asked.path, body);
      setState({ step: "done", error: null, result });
      asked.onDone?.(result);
    } catch (error) {
      setState({ step: (lost ? error.stillUnknown : error.outcomeUnknown) ? "lost" : "ask", error, result: null });
    }
  };
  const isCommand = asked.path === "/v1/commands";
  const repeatable = isCommand || asked.again;
  const { Result } = asked;
  return html`<dialog ref=${dialog} aria-labelledby="ask-title" onClose=${close} onCancel=${(event) => state.step === "sending" && event.preventDefault()}>
    <form onSubmit=${submit}>
      <h2 id="ask-title">${asked.title}</h2>
      ${asked.about && html`<p>${asked.about}</p>`}
      ${state.step !== "done" &&
      asked.fields.map(
        (field) => html`<${Field}
          label=${field.label}
          value=${texts[field.name]}
          options=${field.options}
          hint=${(field.kind === "money" || field.kind === "limit") && typeof body[field.name] !== "object" && texts[field.name] ? `${money(Number.isNaN(body[field.name]) ? null : body[field.name], field.asset)} ${field.asset}` : field.hint}
          required=${field.required}
          disabled=${state.step === "sending" || lost}
          onInput=${(text) => setTexts({ ...texts, [field.name]: text })}
        />`,
      )}
      <div class="scroll" tabindex="0" role="region" aria-label="The request">
        <pre>${asked.method} ${asked.path}${body === undefined ? "" : `\n${JSON.stringify(body, null, 2)}`}</pre>
      </div>
      ${state.step === "done"
        ? html`<p role="status" class="good">
              Done.${state.result?.position && html` The event is at <code>${state.result.position}</code>.`}
            </p>
            ${Result && html`<${Result} result=${state.result} />`}
            <div class="buttons"><button type="button" autofocus onClick=${() => dialog.current.close()}>Close</button></div>`
        : html`<${Failure} error=${state.error} />
            ${lost &&
            (repeatable
              ? html`<p>Repeat it: ${isCommand ? html`it has the same <code>command_id</code>, so it counts once.` : "twice is the same as once."}</p>`
              : html`<p>Close, and look whether it was done before you try again.</p>`)}
            <div class="buttons">
              <button type="button" disabled=${state.step === "sending"} onClick=${() => dialog.current.close()}>Close</button>
              ${(!lost || repeatable) &&
              html`<button class=${asked.danger ? "main danger" : "main"} disabled=${!whole || state.step === "sending"}>
                ${state.step === "sending" ? "Sending …" : lost ? "Repeat" : asked.verb}
              </button>`}
            </div>`}
    </form>
  </dialog>`;
}

/** Where dialogs appear: once in the page. */
export function Dialogs() {
  const [asked, setAsked] = useState(null);
  useEffect(() => {
    show = (next) => setAsked({ ...next, key: newId() });
  }, []);
  return asked && html`<${Ask} key=${asked.key} asked=${asked} close=${() => setAsked(null)} />`;
}
