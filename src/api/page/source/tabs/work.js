// Work: what waits for a person. Withdrawals, proposed adjustments, users in quarantine, gifts.
import { useState } from "preact/hooks";
import { askCommand } from "../command.js";
import { count, money } from "../format.js";
import { html } from "../html.js";
import { Badge, Failure, Field, PagedTable, Player, Section, Table, Time } from "../parts.js";
import { usePages, useRead } from "../reads.js";
import { current, mayPost, nowUs } from "../session.js";

const HOUR_US = 3_600_000_000;
const amountOf = ({ amount, asset }) => `${money(amount, asset)} ${asset}`;
const Refresh = ({ pages }) => html`<button type="button" onClick=${() => pages.reload()}>Refresh</button>`;

/** Two buttons, as far as the role may press them. */
function Decide({ name, approve, reject }) {
  return html`<div class="row">
    ${approve && html`<button type="button" class="small" aria-label=${`Approve ${name}`} onClick=${approve}>Approve …</button>`}
    ${reject && html`<button type="button" class="small" aria-label=${`Reject ${name}`} onClick=${reject}>Reject …</button>`}
  </div>`;
}

function Withdrawals() {
  const pages = usePages("/v1/orders?kind=withdrawal&status=pending&limit=50");
  const decide = (order, approve) =>
    askCommand({
      title: `${approve ? "Pay out" : "Reject"} the withdrawal ${order.order_id}`,
      about: approve
        ? `${amountOf(order)} leave the wallet of ${order.user_id}. This cannot be undone.`
        : `${amountOf(order)} become cash of ${order.user_id} again.`,
      command: { type: approve ? "approve_withdrawal" : "reject_withdrawal", user_id: order.user_id, order_id: order.order_id },
      fields: [{ name: "reason", label: approve ? "Note (optional)" : "Reason", required: !approve }],
      danger: !approve,
      onDone: ({ position }) => pages.reload(position),
    });
  return html`<${Section} title="Withdrawals to decide" tools=${html`<${Refresh} pages=${pages} />`}>
    <${PagedTable}
      label="Withdrawals to decide"
      pages=${pages}
      keyOf=${({ user_id, order_id }) => `${user_id} ${order_id}`}
      empty="No withdrawal waits."
      columns=${[
        { title: "User", cell: ({ user_id }) => html`<${Player} id=${user_id} />` },
        {
          title: "Decide",
          cell: (order) => html`<${Decide}
            name=${order.order_id}
            approve=${mayPost("approve_withdrawal") && (() => decide(order, true))}
            reject=${mayPost("reject_withdrawal") && (() => decide(order, false))}
          />`,
        },
        { title: "Order", cell: ({ order_id }) => order_id },
        { title: "Amount", number: true, cell: amountOf },
        { title: "Since", cell: ({ created_at_us }) => html`<${Time} us=${created_at_us} />` },
      ]}
    />
  <//>`;
}

function Adjustments() {
  const pages = usePages("/v1/adjustments?status=proposed&limit=50");
  const own = ({ proposed_by }) => current().login && proposed_by === current().client_id;
  const decide = (adjustment, approve) =>
    askCommand({
      title: `${approve ? "Approve" : "Reject"} the adjustment ${adjustment.adjustment_id}`,
      about: `${amountOf(adjustment)} of cash for ${adjustment.user_id}, proposed by ${adjustment.proposed_by}: ${adjustment.reason}`,
      command: {
        type: approve ? "approve_adjustment" : "reject_adjustment",
        user_id: adjustment.user_id,
        adjustment_id: adjustment.adjustment_id,
      },
      fields: [{ name: "reason", label: approve ? "Note (optional)" : "Reason", required: !approve }],
      danger: !approve,
      onDone: ({ position }) => pages.reload(position),
    });
  return html`<${Section} title="Proposed adjustments" tools=${html`<${Refresh} pages=${pages} />`}>
    <${PagedTable}
      label="Proposed adjustments"
      pages=${pages}
      keyOf=${({ user_id, adjustment_id }) => `${user_id} ${adjustment_id}`}
      empty="No adjustment waits."
      columns=${[
        { title: "User", cell: ({ user_id }) => html`<${Player} id=${user_id} />` },
        {
          title: "Decide",
          cell: (adjustment) => html`<${Decide}
              name=${adjustment.adjustment_id}
              approve=${mayPost("approve_adjustment") && !own(adjustment) && (() => decide(adjustment, true))}
              reject=${mayPost("reject_adjustment") && (() => decide(adjustment, false))}
            />
            ${own(adjustment) && mayPost("approve_adjustment") && html`<small>You proposed it: another client has to approve it.</small>`}`,
        },
        { title: "Adjustment", cell: ({ adjustment_id }) => adjustment_id },
        { title: "Amount", number: true, cell: amountOf },
        { title: "Reason", cell: ({ reason }) => reason, wide: true },
        { title: "Proposed by", cell: ({ proposed_by }) => proposed_by },
        { title: "Since", cell: ({ created_at_us }) => html`<${Time} us=${created_at_us} />` },
      ]}
    />
  <//>`;
}

function Quarantine() {
  const found = useRead("/admin/quarantined", 60);
  return html`<${Section} title="Users in quarantine">
    <p class="quiet">A fold could not process an event of these users, so their reads stop there. Their commands are still decided
      correctly. After the fold is repaired, <code>stakelog project rebuild</code> ends the quarantine.</p>
    <${Failure} error=${found.error} />
    <${Table}
      label="Users in quarantine"
      rows=${found.data?.items}
      keyOf=${({ user_id }) => user_id}
      empty="No user is in quarantine."
      columns=${[
        { title: "User", cell: ({ user_id }) => html`<${Player} id=${user_id} />` },
        { title: "Event", cell: ({ position }) => html`<code>${position}</code>` },
        { title: "Since", cell: ({ time_us }) => html`<${Time} us=${time_us} />` },
        { title: "Reason", cell: ({ reason }) => reason, wide: true },
      ]}
    />
  <//>`;
}

const GIFT_TONE = { open: "good", closed: "bad" };

function Gifts() {
  const pages = usePages("/admin/gifts?limit=50");
  const [code, setCode] = useState("");
  const [asked, setAsked] = useState(null);
  const found = useRead(asked && `/v1/gifts/${encodeURIComponent(asked)}`);
  const [asset, setAsset] = useState(Object.keys(current().assets)[0]);
  const create = () =>
    askCommand({
      title: `Create a gift of ${asset}`,
      about: "The amount is divided into shares of bonus money. Each user may claim one share by the code.",
      command: { type: "create_gift", user_id: "", asset },
      fields: [
        { name: "user_id", label: "Code", kind: "prefixed", prefix: "gift:", required: true },
        { name: "amount", label: "Amount", kind: "money", asset, required: true },
        { name: "claims", label: "Shares", kind: "integer", required: true },
        {
          name: "expires_at_us",
          label: "Ends",
          kind: "choice",
          options: [["", "Never"], ...[24, 72, 168, 720].map((hours) => [String(nowUs() + hours * HOUR_US), hours === 24 ? "In a day" : `In ${hours / 24} days`])],
          integer: true,
        },
      ],
      onDone: ({ position }) => pages.reload(position),
    });
  const close = (gift) =>
    askCommand({
      title: `Close the gift ${gift.code}`,
      about: "No more of its shares are granted. This cannot be undone.",
      command: { type: "close_gift", user_id: `gift:${gift.code}` },
      fields: [{ name: "reason", label: "Reason", required: true }],
      danger: true,
      onDone: ({ position }) => {
        pages.reload(position);
        setAsked(null);
      },
    });
  const columns = [
    { title: "Code", cell: ({ code }) => html`<code>${code}</code>` },
    {
      title: "Actions",
      cell: (gift) =>
        mayPost("close_gift") &&
        gift.status !== "closed" &&
        html`<button type="button" class="small" aria-label=${`Close ${gift.code}`} onClick=${() => close(gift)}>Close …</button>`,
    },
    { title: "State", cell: ({ status }) => html`<${Badge} tone=${GIFT_TONE[status]}>${status.replace("_", " ")}<//>` },
    { title: "Amount", number: true, cell: amountOf },
    { title: "Shares claimed", number: true, cell: ({ claimed, claims }) => `${count(claimed)} of ${count(claims)}` },
    { title: "Ends", cell: ({ expires_at_us }) => html`<${Time} us=${expires_at_us} />` },
  ];
  return html`<${Section}
    title="Gifts"
    tools=${mayPost("create_gift") &&
    html`<${Field} label="Asset" value=${asset} onInput=${setAsset} options=${Object.keys(current().assets).map((name) => [name, name])} />
      <button type="button" onClick=${create}>Create a gift …</button>`}
  >
    <form
      class="row"
      onSubmit=${(event) => {
        event.preventDefault();
        setAsked(code.trim() || null);
      }}
    >
      <${Field} label="Find by code" value=${code} onInput=${setCode} />
      <button>Find</button>
    </form>
    <${Failure} error=${found.error} />
    ${asked && found.data && html`<${Table} label="The gift with this code" rows=${[found.data]} columns=${columns} />`}
    <h3>All gifts</h3>
    <${PagedTable} label="All gifts" pages=${pages} keyOf=${({ code }) => code} empty="There is no gift." columns=${columns} />
  <//>`;
}

function Work() {
  return html`<${Withdrawals} /><${Adjustments} /><${Quarantine} /><${Gifts} />`;
}

export const work = { id: "work", title: "Work", View: Work };
