// What proves that the log is whole: a verification, heads and seals to keep elsewhere, receipts.
import { useEffect, useState } from "preact/hooks";
import { askRequest } from "../command.js";
import { count, short } from "../format.js";
import { html } from "../html.js";
import { Badge, Copyable, Facts, Failure, Field, PagedTable, Section, Time, download } from "../parts.js";
import { usePages, useRead } from "../reads.js";
import { isRole, read } from "../session.js";

const VERIFICATION = "/admin/verification";
const TONES = { running: "warn", well: "good", fault: "bad", failed: "bad" };
const WORDS = { running: "running", well: "the log is well", fault: "a fault was found", failed: "it could not be verified" };

function Verification() {
  const [running, setRunning] = useState(false);
  const { data, error, reload } = useRead(VERIFICATION, running ? 1 : 0);
  useEffect(() => setRunning(data?.status === "running"), [data]);
  const verify = () =>
    askRequest({
      title: "Verify the log now",
      about: "Another process reads the whole log, and recomputes the chain, postings, balances, requests, payouts and seals. It uses one core, at low priority.",
      method: "POST",
      path: VERIFICATION,
      again: true,
      onDone: reload,
    });
  const share = data?.total ? data.done / data.total : null;
  return html`<${Section} title="Verification" tools=${data?.possible && html`<button type="button" class="main" disabled=${data.status === "running"} onClick=${verify}>Verify now …</button>`}>
    <${Failure} error=${error} />
    ${data && !data.possible && html`<p>The log is in Kafka, where an auditor's program verifies it: <code>stakelog audit verify --url … --login FILE</code>.</p>`}
    ${data?.possible && data.status === null && html`<p class="quiet">It was not verified from here since the service started.</p>`}
    ${data?.status &&
    html`<div role="status">
        <p><${Badge} tone=${TONES[data.status]}>${WORDS[data.status]}<//>${" "}
          ${data.status === "running" && (share === null ? "reading …" : `${count(data.done)} of ${count(data.total)} events`)}</p>
      </div>
      ${data.status === "running" && html`<progress aria-label="Progress of the verification" max="1" value=${share ?? undefined}></progress>`}
      <${Facts} of=${[
        ["Began", html`<${Time} us=${data.began_at_us} />`],
        ["Ended", html`<${Time} us=${data.ended_at_us} />`],
        ["Asked for by", data.by],
      ]} />
      ${data.lines.map((line) => html`<p class=${line.includes("WARNING") ? "warning" : ""}>${line}</p>`)}`}
  <//>`;
}

function Heads() {
  const [error, setError] = useState(null);
  const save = async () => {
    try {
      const heads = await read("/v1/partitions");
      const name = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "");
      download(`stakelog-heads-${name}.json`, JSON.stringify(heads));
      setError(null);
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<${Section} title="Heads" tools=${html`<button type="button" onClick=${save}>Download heads</button>`}>
    <p>A file of heads that is kept elsewhere proves later that the log still has everything before them:
      <code> stakelog audit verify --heads FILE</code>.</p>
    <${Failure} error=${error} />
  <//>`;
}

function Seals() {
  const pages = usePages("/v1/seals?limit=10");
  return html`<${Section} title="Seals" tools=${html`<button type="button" onClick=${() => pages.reload()}>Refresh</button>`}>
    <${PagedTable}
      label="Seals"
      pages=${pages}
      keyOf=${({ sealed_at_us }) => sealed_at_us}
      empty="No seal was made yet."
      columns=${[
        { title: "Sealed at", cell: ({ sealed_at_us }) => html`<${Time} us=${sealed_at_us} />` },
        { title: "Events", number: true, cell: ({ partitions }) => count(partitions.reduce((sum, { seq }) => sum + seq, 0)) },
        { title: "Seal before", cell: ({ prev }) => html`<code title=${prev}>${short(prev)}</code>` },
        { title: "Signed by", cell: ({ kid }) => (kid ? html`<code title=${kid}>${short(kid)}</code>` : html`<${Badge} tone="warn">not signed<//>`) },
      ]}
    />
  <//>`;
}

function Receipt({ position }) {
  const [typed, setTyped] = useState(position ?? "");
  const [state, setState] = useState({ receipt: null, text: "", error: null });
  const get = async (event) => {
    event?.preventDefault();
    try {
      const text = await read(`/v1/events/${encodeURIComponent(typed.trim())}/receipt`);
      setState({ receipt: JSON.parse(text), text, error: null });
    } catch (error) {
      setState({ receipt: null, text: "", error });
    }
  };
  useEffect(() => {
    if (position) get();
  }, []);
  const { receipt } = state;
  return html`<${Section} title="Receipt of an event">
    <form class="row" onSubmit=${get}>
      <${Field} label="Position (partition:seq)" value=${typed} onInput=${setTyped} placeholder="3:42" required pattern="\\s*\\d+:\\d+\\s*" />
      <button class="main">Get receipt</button>
    </form>
    <${Failure} error=${state.error} />
    ${receipt &&
    html`<${Facts} of=${[
        ["Position", `${receipt.partition}:${receipt.seq}`],
        ["Signed at", html`<${Time} us=${receipt.signed_at_us} />`],
        ["Key", html`<${Copyable} text=${receipt.kid} />`],
        ["Head", html`<${Copyable} text=${receipt.head} />`],
      ]} />
      <div class="scroll" tabindex="0" role="region" aria-label="The record"><pre>${JSON.stringify(JSON.parse(receipt.record), null, 2)}</pre></div>
      <div class="buttons"><button type="button" onClick=${() => download(`receipt-${receipt.partition}-${receipt.seq}.json`, state.text)}>Download receipt</button></div>`}
  <//>`;
}

function Proof({ rest }) {
  return html`<${Verification} /><${Heads} />${isRole("auditor", "admin") && html`<${Receipt} key=${rest[0]} position=${rest[0]} />`}<${Seals} />`;
}

export const proof = { id: "proof", title: "Proof", View: Proof };
