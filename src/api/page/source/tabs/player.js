// Player: one wallet, found by the beginning of its id, with everything that is known of it.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { askCommand, newId } from "../command.js";
import { count, money, time } from "../format.js";
import { html } from "../html.js";
import { Badge, Facts, Failure, Field, PagedTable, Player as Link, Section, Table, Time } from "../parts.js";
import { Plot } from "../plot.js";
import { usePages, useRead } from "../reads.js";
import { current, mayPost, nowUs } from "../session.js";

const SETTLE_MS = 200; // a slider that moves asks only once it rests
const STATUS_TONE = {
  open: "good", frozen: "warn", closed: "bad", won: "good", lost: "", cancelled: "bad", pending: "warn", completed: "good",
  approved: "good", rejected: "bad", reversed: "bad", captured: "good", released: "", expired: "bad", delivered: "good",
  returned: "bad", sent: "warn",
};
const HISTORY_TYPES = [
  "deposited", "withdrawal_requested", "withdrawal_approved", "withdrawal_rejected", "bet_placed", "bet_settled", "bet_cancelled",
  "hold_placed", "hold_captured", "hold_released", "hold_expired", "transfer_sent", "transfer_received", "transfer_returned",
  "bonus_granted", "bonus_expired", "attendance_claimed", "gift_received", "commission_paid", "adjusted", "adjustment_approved", "reversed",
];
const BUCKETS = ["cash", "bonus", "held"];
const LIMITS = [
  ["credit_limit", "Credit limit"],
  ["balance_max", "Most balance"],
  ["stake_max_per_day", "Most stakes a day"],
  ["withdrawal_max_per_day", "Most withdrawals a day"],
];
const title = (name) => (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");
const assets = () => Object.keys(current().assets);
const assetOptions = () => assets().map((name) => [name, name]);
const Status = ({ is }) => html`<${Badge} tone=${STATUS_TONE[is]}>${is}<//>`;
const amountOf = ({ amount, asset }) => `${money(amount, asset)} ${asset}`;
const of = (user_id, list) => `/v1/wallets/${encodeURIComponent(user_id)}/${list}`;

function useDebounced(value) {
  const [settled, set] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => set(value), SETTLE_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

// --- find ----------------------------------------------------------------------------------------------------------

function Find() {
  const [text, setText] = useState("");
  const prefix = useDebounced(text.trim());
  const pages = usePages(prefix ? `/v1/wallets?limit=20&prefix=${encodeURIComponent(prefix)}` : null);
  return html`<${Section} title="Find a player">
    <${Field} label="The id begins with" type="search" value=${text} onInput=${setText} autofocus />
    ${prefix &&
    html`<${PagedTable}
      label="Wallets"
      pages=${pages}
      keyOf=${({ user_id }) => user_id}
      empty="No wallet begins with this."
      columns=${[
        { title: "User", cell: ({ user_id }) => html`<${Link} id=${user_id} />` },
        { title: "State", cell: ({ status }) => html`<${Status} is=${status} />` },
        { title: "Opened", cell: ({ opened_at_us }) => html`<${Time} us=${opened_at_us} />` },
        {
          title: "Balance",
          cell: ({ balances }) =>
            Object.entries(balances).map(([asset, { cash, bonus, held }]) => `${money(BigInt(cash) + BigInt(bonus) + BigInt(held), asset)} ${asset}`).join(", ") || "—",
        },
      ]}
    />`}
  <//>`;
}

// --- the wallet ----------------------------------------------------------------------------------------------------

function actions(wallet, reload) {
  const { user_id, status } = wallet;
  const onDone = ({ position }) => reload(position);
  const reason = [{ name: "reason", label: "Reason", required: true }];
  return {
    freeze: () =>
      askCommand({
        title: `Freeze the wallet ${user_id}`,
        about: "Bets, holds, captures, withdrawals and transfers of the user are refused until the freeze ends.",
        command: { type: "freeze_wallet", user_id },
        fields: reason,
        danger: true,
        onDone,
      }),
    unfreeze: () => askCommand({ title: `End the freeze of ${user_id}`, command: { type: "unfreeze_wallet", user_id }, fields: reason, onDone }),
    limits: (asset) =>
      askCommand({
        title: `Limits of ${user_id} in ${asset}`,
        about: "An empty field leaves a limit as it is. “none” takes it away.",
        command: { type: "set_limits", user_id, asset },
        fields: LIMITS.map(([name, label]) => ({ name, label, kind: "limit", asset })),
        onDone,
      }),
    adjust: (asset) =>
      askCommand({
        title: `Propose an adjustment of ${user_id} in ${asset}`,
        about: "Nothing moves until another client approves it, in the tab Work. A minus takes money away.",
        command: { type: "propose_adjustment", user_id, adjustment_id: newId("adj"), asset },
        fields: [{ name: "amount", label: "Amount", kind: "money", asset, required: true }, ...reason],
        onDone,
      }),
    isFrozen: status === "frozen",
    isClosed: status === "closed",
  };
}

function Wallet({ user_id, wallet, reload }) {
  const [asset, setAsset] = useState(assets()[0]);
  const { data, error } = wallet;
  if (!data) return html`<${Section} title=${user_id}><${Failure} error=${error} />${!error && html`<p class="quiet">Loading …</p>`}<//>`;
  const may = actions(data, reload);
  const rows = [...new Set([...Object.keys(data.balances), ...Object.keys(data.limits)])].sort();
  const limit = (name) => ({
    title: LIMITS.find(([key]) => key === name)[1],
    number: true,
    cell: (row) => (data.limits[row]?.[name] === undefined || data.limits[row][name] === null ? "none" : money(data.limits[row][name], row)),
  });
  return html`<${Section}
    title=${user_id}
    tools=${html`<button type="button" onClick=${() => reload()}>Refresh</button>`}
  >
    <${Failure} error=${error} />
    ${data.as_of.suspect && html`<p class="failure" role="alert">The check found that rows of this user differ from the log: what is shown may be wrong.</p>`}
    <${Facts}
      of=${[
        ["State", html`<${Status} is=${data.status} />`],
        ["Opened", html`<${Time} us=${data.opened_at_us} />`],
        ["Referred by", data.referrer_id ? html`<${Link} id=${data.referrer_id} />` : "—"],
        ["First deposit", data.first_deposit ? `${amountOf(data.first_deposit)}, ${time(data.first_deposit.time_us)}` : "—"],
        ...Object.entries(data.wagering ?? {}).map(([name, { required, done }]) => [`Wagered, ${name}`, `${money(done, name)} of ${money(required, name)} ${name}`]),
        ["As of", html`<code>${data.as_of.position}</code>`],
      ]}
    />
    <${Table}
      label=${`Balances and limits of ${user_id}`}
      rows=${rows}
      keyOf=${(row) => row}
      empty="No asset has moved."
      columns=${[
        { title: "Asset", cell: (row) => row },
        ...[...BUCKETS, "available", "withdrawable"].map((name) => ({
          title: title(name),
          number: true,
          cell: (row) => money(data.balances[row]?.[name] ?? 0, row),
        })),
        ...LIMITS.map(([name]) => limit(name)),
      ]}
    />
    <div class="row">
      ${mayPost("freeze_wallet") && !may.isClosed && !may.isFrozen && html`<button type="button" onClick=${may.freeze}>Freeze …</button>`}
      ${mayPost("unfreeze_wallet") && may.isFrozen && html`<button type="button" onClick=${may.unfreeze}>Unfreeze …</button>`}
      ${(mayPost("set_limits") || mayPost("propose_adjustment")) &&
      !may.isClosed &&
      html`<${Field} label="Asset" value=${asset} onInput=${setAsset} options=${assetOptions()} />`}
      ${mayPost("set_limits") && !may.isClosed && html`<button type="button" onClick=${() => may.limits(asset)}>Set limits …</button>`}
      ${mayPost("propose_adjustment") && !may.isClosed && html`<button type="button" onClick=${() => may.adjust(asset)}>Propose an adjustment …</button>`}
    </div>
  <//>`;
}

// --- the balance at any time ---------------------------------------------------------------------------------------

/** Lines of history, the newest first, as steps: just before each line the balance is that of the line before. */
export function steps(items, exponent, endUs) {
  const unit = 10 ** exponent;
  const times = [];
  const values = BUCKETS.map(() => []);
  const add = (us, balances) => {
    times.push(us / 1e6);
    BUCKETS.forEach((name, index) => values[index].push(Number(balances[name]) / unit));
  };
  for (let index = items.length - 1; index >= 0; index--) {
    const { time_us, balances } = items[index];
    if (index < items.length - 1) add(time_us, items[index + 1].balances);
    add(time_us, balances);
  }
  if (items.length) add(Math.max(endUs, items[0].time_us), items[0].balances);
  return { times, values };
}

function BalanceOverTime({ user_id, asset }) {
  const pages = usePages(`${of(user_id, "history")}?asset=${encodeURIComponent(asset)}&limit=200`);
  const [endUs] = useState(nowUs);
  const [chosen, choose] = useState(null);
  const items = pages.items ?? [];
  const shown = useMemo(() => steps(items, current().assets[asset] ?? 0, endUs), [pages.items, asset, endUs]);
  const first = items.length ? items.at(-1).time_us : endUs;
  const last = Math.max(endUs, items[0]?.time_us ?? 0);
  const at = useDebounced(chosen === null ? null : Math.min(Math.max(chosen, first), last));
  const balance = useRead(at === null ? null : `${of(user_id, "balance")}?at_us=${at}`);
  const found = balance.data?.balances[asset] ?? (balance.data && { cash: 0, bonus: 0, held: 0 });
  if (pages.error) return html`<${Failure} error=${pages.error} />`;
  if (pages.items === null) return html`<p class="quiet">Loading …</p>`;
  if (!items.length) return html`<p class="quiet">${asset} has not moved.</p>`;
  return html`<${Plot}
      title=${`Balance, the last ${count(items.length)} changes`}
      unit=${asset}
      times=${shown.times}
      series=${BUCKETS.map((label, index) => ({ label, colour: `line-${index + 1}`, values: shown.values[index] }))}
    />
    <label class="field slider">
      <span>${chosen === null ? "The balance at a time: move the slider" : time(chosen)}</span>
      <input
        type="range"
        min=${first}
        max=${last}
        step=${Math.max(1, Math.floor((last - first) / 1000))}
        value=${chosen ?? last}
        aria-valuetext=${time(chosen ?? last)}
        onInput=${(event) => choose(Number(event.target.value))}
      />
    </label>
    <${Failure} error=${balance.error} />
    ${found && html`<${Facts} of=${BUCKETS.map((name) => [name, `${money(found[name], asset)} ${asset}`])} />`}
    ${pages.more && html`<button type="button" disabled=${pages.loading} onClick=${pages.next}>Earlier changes</button>`}`;
}

function Balance({ user_id, ofWallet }) {
  const [asset, setAsset] = useState(() => Object.keys(ofWallet.balances)[0] ?? assets()[0]);
  return html`<${Section}
    title="Balance at any time"
    tools=${html`<${Field} label="Asset" value=${asset} onInput=${setAsset} options=${assetOptions()} />`}
  >
    <${BalanceOverTime} key=${asset} user_id=${user_id} asset=${asset} />
  <//>`;
}

// --- lists ---------------------------------------------------------------------------------------------------------

const changes = (change, asset) =>
  Object.entries(change)
    .filter(([, amount]) => Number(amount) !== 0)
    .map(([bucket, amount]) => `${Number(amount) > 0 ? "+" : ""}${money(amount, asset)} ${bucket}`)
    .join(", ");

/** "2026-11-30T10:00", as the browser's field gives it, is UTC. Null: no time. */
export function fieldUs(text) {
  const ms = text ? Date.parse(`${text}Z`) : NaN;
  return Number.isNaN(ms) ? null : ms * 1000;
}

function History({ user_id }) {
  const [filters, setFilters] = useState({ type: "", asset: "", game: "", from: "", to: "" });
  const set = (name) => (value) => setFilters({ ...filters, [name]: value });
  const { type, asset, game, from, to } = useDebounced(filters);
  const wanted = { type, asset, game: game.trim(), from_us: fieldUs(from), to_us: fieldUs(to) };
  const query = Object.entries(wanted).filter(([, value]) => value).map(([name, value]) => `&${name}=${encodeURIComponent(value)}`).join("");
  const pages = usePages(`${of(user_id, "history")}?limit=50${query}`);
  return html`<div class="row">
      <${Field} label="Type" value=${filters.type} onInput=${set("type")} options=${[["", "all"], ...HISTORY_TYPES.map((name) => [name, name.replaceAll("_", " ")])]} />
      <${Field} label="Asset" value=${filters.asset} onInput=${set("asset")} options=${[["", "all"], ...assetOptions()]} />
      <${Field} label="Game" value=${filters.game} onInput=${set("game")} />
      <${Field} label="From (UTC)" type="datetime-local" value=${filters.from} onInput=${set("from")} />
      <${Field} label="To (UTC)" type="datetime-local" value=${filters.to} onInput=${set("to")} />
    </div>
    <${PagedTable}
      label=${`History of ${user_id}`}
      pages=${pages}
      keyOf=${({ position, asset }) => `${position} ${asset}`}
      empty="No line matches."
      columns=${[
        { title: "Time", cell: ({ time_us }) => html`<${Time} us=${time_us} />` },
        { title: "Type", cell: ({ type }) => type.replaceAll("_", " ") },
        { title: "Change", cell: ({ change, asset }) => `${changes(change, asset) || "0"} · ${asset}` },
        ...BUCKETS.map((name) => ({ title: `${title(name)} after`, number: true, cell: ({ balances, asset }) => money(balances[name], asset) })),
        { title: "Game", cell: ({ game }) => game ?? "—" },
        {
          title: "Event",
          cell: ({ position, command_id, data }) => html`<details><summary><code>${position}</code></summary>
            <pre>${JSON.stringify({ command_id, ...data }, (_key, value) => (typeof value === "bigint" ? String(value) : value), 2)}</pre></details>`,
        },
      ]}
    />`;
}

function Bets({ user_id }) {
  const [status, setStatus] = useState("");
  const pages = usePages(`${of(user_id, "bets")}?limit=50${status && `&status=${status}`}`);
  return html`<div class="row">
      <${Field} label="State" value=${status} onInput=${setStatus} options=${["", "open", "won", "lost", "cancelled"].map((name) => [name, name || "all"])} />
    </div>
    <${PagedTable}
      label=${`Bets of ${user_id}`}
      pages=${pages}
      keyOf=${({ bet_id }) => bet_id}
      empty="No bet matches."
      columns=${[
        { title: "Placed", cell: ({ placed_at_us }) => html`<${Time} us=${placed_at_us} />` },
        { title: "Bet", cell: ({ bet_id }) => bet_id },
        { title: "Game", cell: ({ game, period }) => html`${game}<br /><small>${period}</small>` },
        { title: "Selection", cell: ({ selection }) => selection },
        { title: "Stake", number: true, cell: ({ stake, asset }) => `${money(stake, asset)} ${asset}` },
        { title: "State", cell: ({ status }) => html`<${Status} is=${status} />` },
        { title: "Payout", number: true, cell: ({ payout, asset }) => money(payout, asset) },
        { title: "Unpaid", number: true, cell: ({ unpaid, asset }) => (Number(unpaid) ? money(unpaid, asset) : "—") },
        { title: "Settled", cell: ({ settled_at_us }) => html`<${Time} us=${settled_at_us} />` },
      ]}
    />`;
}

const created = { title: "Created", cell: ({ created_at_us }) => html`<${Time} us=${created_at_us} />` };
const resolved = { title: "Ended", cell: ({ resolved_at_us }) => html`<${Time} us=${resolved_at_us} />` };
const amount = { title: "Amount", number: true, cell: amountOf };
const state = { title: "State", cell: ({ status }) => html`<${Status} is=${status} />` };
const expires = { title: "Expires", cell: ({ expires_at_us }) => html`<${Time} us=${expires_at_us} />` };

/** Lists without filters: [path, id of an item, columns]. */
const PLAIN = {
  holds: [
    (user_id) => `${of(user_id, "holds")}?limit=50`,
    "hold_id",
    [created, { title: "Hold", cell: ({ hold_id }) => hold_id }, amount, state, { title: "Captured", number: true, cell: ({ captured, asset }) => money(captured, asset) }, expires, resolved],
  ],
  transfers: [
    (user_id) => `${of(user_id, "transfers")}?limit=50`,
    "transfer_id",
    [created, { title: "Transfer", cell: ({ transfer_id }) => transfer_id }, { title: "To", cell: ({ to_user_id }) => html`<${Link} id=${to_user_id} />` }, amount, state, { title: "Reason", cell: ({ reason }) => reason ?? "—" }, resolved],
  ],
  grants: [
    (user_id) => `${of(user_id, "grants")}?limit=50`,
    "grant_id",
    [created, { title: "Grant", cell: ({ grant_id }) => grant_id }, { title: "Kind", cell: ({ kind }) => kind.replaceAll("_", " ") }, amount, { title: "Remaining", number: true, cell: ({ remaining, asset }) => money(remaining, asset) }, expires],
  ],
  orders: [
    (user_id) => `/v1/orders?user_id=${encodeURIComponent(user_id)}&limit=50`,
    "order_id",
    [created, { title: "Order", cell: ({ order_id }) => order_id }, { title: "Kind", cell: ({ kind }) => kind }, amount, { title: "Bonus", number: true, cell: ({ bonus, asset }) => money(bonus, asset) }, state, { title: "Reason", cell: ({ reason }) => reason ?? "—" }, resolved],
  ],
};

function Plain({ user_id, list }) {
  const [path, id, columns] = PLAIN[list];
  const pages = usePages(path(user_id));
  return html`<${PagedTable} label=${`${list} of ${user_id}`} pages=${pages} keyOf=${(row) => row[id]} columns=${columns} />`;
}

function Referrals({ user_id }) {
  const found = useRead(of(user_id, "referrals"));
  if (!found.data) return html`<${Failure} error=${found.error} />${!found.error && html`<p class="quiet">Loading …</p>`}`;
  const { referrer_id, direct_count, levels, commissions } = found.data;
  const earned = Object.entries(commissions).map(([asset, sum]) => `${money(sum, asset)} ${asset}`).join(", ");
  return html`<${Facts} of=${[["Referred by", referrer_id ? html`<${Link} id=${referrer_id} />` : "—"], ["Referred by this player", count(direct_count)], ["Commissions", earned || "—"]]} />
    <${Table}
      label=${`Levels below ${user_id}`}
      rows=${levels}
      keyOf=${({ level }) => level}
      columns=${[
        { title: "Level", cell: ({ level }) => level },
        { title: "Members", number: true, cell: ({ members }) => count(members) },
      ]}
    />`;
}

function Statistics({ user_id }) {
  const found = useRead(of(user_id, "stats"));
  const sums = ["staked", "paid_out", "net", "biggest_win"].map((name) => ({ title: title(name), number: true, cell: (row) => money(row[name], row.asset) }));
  const bets = [
    { title: "Bets", number: true, cell: ({ bets }) => count(bets) },
    { title: "Wins", number: true, cell: ({ wins }) => count(wins) },
  ];
  const flows = ["deposits", "withdrawals", "bonuses", "commissions"].map((name) => ({
    title: title(name),
    number: true,
    cell: (row) => `${money(row[name].amount, row.asset)} (${count(row[name].count)})`,
  }));
  return html`<${Failure} error=${found.error} />
    <h3>In all</h3>
    <${Table} label=${`Totals of ${user_id}`} rows=${found.data?.totals ?? (found.error ? [] : null)} keyOf=${({ asset }) => asset} columns=${[{ title: "Asset", cell: ({ asset }) => asset }, ...bets, ...sums, ...flows]} />
    <h3>By game</h3>
    <${Table} label=${`Games of ${user_id}`} rows=${found.data?.games ?? (found.error ? [] : null)} keyOf=${({ asset, game }) => `${asset} ${game}`} columns=${[{ title: "Asset", cell: ({ asset }) => asset }, { title: "Game", cell: ({ game }) => game }, ...bets, ...sums]} />`;
}

const LISTS = [
  ["history", "History", History],
  ["bets", "Bets", Bets],
  ["holds", "Holds", Plain],
  ["transfers", "Transfers", Plain],
  ["grants", "Grants", Plain],
  ["orders", "Orders", Plain],
  ["referrals", "Referrals", Referrals],
  ["statistics", "Statistics", Statistics],
];

function One({ user_id, list }) {
  const [position, setPosition] = useState(null);
  const [turn, setTurn] = useState(0);
  const wallet = useRead(`/v1/wallets/${encodeURIComponent(user_id)}${position ? `?min_position=${position}` : ""}`);
  const reload = (after) => {
    if (after && after !== position) setPosition(after);
    else wallet.reload();
    setTurn(turn + 1);
  };
  const [name, heading, View] = LISTS.find(([id]) => id === list) ?? LISTS[0];
  const known = useRef(null);
  known.current = wallet.data ?? known.current;
  return html`<p><a href="#/player">← Find another player</a></p>
    <${Wallet} user_id=${user_id} wallet=${{ ...wallet, data: known.current }} reload=${reload} />
    ${known.current && html`<${Balance} key=${`balance ${turn}`} user_id=${user_id} ofWallet=${known.current} />`}
    ${known.current &&
    html`<${Section} title=${heading}>
      <nav class="lists" aria-label="What is shown">
        ${LISTS.map(([id, text]) => html`<a href=${`#/player/${encodeURIComponent(user_id)}/${id}`} aria-current=${id === name ? "true" : undefined}>${text}</a>`)}
      </nav>
      <${View} key=${`${name} ${turn}`} user_id=${user_id} list=${name} />
    <//>`}`;
}

function PlayerTab({ rest: [user_id, list] }) {
  return user_id ? html`<${One} key=${user_id} user_id=${user_id} list=${list} />` : html`<${Find} />`;
}

export const player = { id: "player", title: "Player", View: PlayerTab };
