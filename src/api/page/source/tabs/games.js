// Games: the present periods with what is bet on them, results with their proof, and the edges.
import { useEffect, useState } from "preact/hooks";
import { askCommand } from "../command.js";
import { count, money, ppm } from "../format.js";
import { html } from "../html.js";
import { useFeed } from "../live.js";
import { Badge, Copyable, Facts, Failure, Field, PagedTable, Section, Table, Time } from "../parts.js";
import { Plot } from "../plot.js";
import { usePages, useRead } from "../reads.js";
import { current, mayPost, nowUs } from "../session.js";

const DAY_US = 86_400_000_000;
const CANCEL_AFTER_US = 2_000_000; // a period can be cancelled so long after its end
const RANGES = [
  ["1", "24 hours"],
  ["7", "7 days"],
  ["31", "31 days"],
];

/** The service's time, again every second. */
function useClock() {
  const [us, set] = useState(nowUs);
  useEffect(() => {
    const timer = setInterval(() => set(nowUs()), 1000);
    return () => clearInterval(timer);
  }, []);
  return us;
}

function left(us) {
  const seconds = Math.max(0, Math.ceil(us / 1e6));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function tone(status) {
  return { open: "good", settled: "good", cancelled: "bad", settling: "warn" }[status] ?? "";
}

const sums = (amounts) =>
  Object.entries(amounts)
    .map(([asset, amount]) => `${money(amount, asset)} ${asset}`)
    .join(", ") || "—";

function Present({ game }) {
  const { events, error } = useFeed(`game=${encodeURIComponent(game)}`, ["distribution"]);
  const us = useClock();
  const period = events.distribution;
  if (!period) return error ? html`<${Failure} error=${error} />` : html`<p class="quiet">Loading …</p>`;
  const total = period.distribution.reduce((all, { asset, staked }) => ({ ...all, [asset]: (all[asset] ?? 0) + Number(staked) }), {});
  return html`<${Facts}
      of=${[
        ["Period", period.period],
        ["Issue", period.issue],
        ["Bets until", us < period.closes_at_us ? html`<b>${left(period.closes_at_us - us)}</b>` : html`<${Badge}>closed<//>`],
        ["Ends in", left(period.ends_at_us - us)],
        ["Open bets", count(period.open_bets)],
        ["Staked", sums(period.staked)],
      ]}
    />
    <${Table}
      label=${`What is bet on the present period of ${game}`}
      rows=${period.distribution}
      keyOf=${({ selection, asset }) => `${selection} ${asset}`}
      empty="No bet yet."
      columns=${[
        { title: "Selection", cell: ({ selection }) => selection },
        { title: "Bets", number: true, cell: ({ bets }) => count(bets) },
        { title: "Staked", number: true, cell: ({ staked, asset }) => `${money(staked, asset)} ${asset}` },
        {
          title: "Share",
          cell: ({ staked, asset }) => html`<div class="bar" role="img" aria-label=${`${Math.round((100 * Number(staked)) / total[asset])} %`}>
            <i style=${{ width: `${(100 * Number(staked)) / total[asset]}%` }}></i>
          </div>`,
        },
      ]}
    />`;
}

function Proof({ proof }) {
  return html`<details>
    <summary>Proof</summary>
    <${Facts} of=${Object.entries(proof).map(([name, value]) => [name, typeof value === "string" && value.length > 20 ? html`<${Copyable} text=${value} />` : String(value)])} />
  </details>`;
}

function Results({ game }) {
  const pages = usePages(`/v1/games/${encodeURIComponent(game)}/periods?limit=20`);
  const us = useClock();
  const cancel = ({ period }) =>
    askCommand({
      title: `Cancel the period ${period}`,
      about: "Every open bet of it gets its stake and fee back. This cannot be undone.",
      command: { type: "cancel_period", user_id: `game:${game}`, period },
      fields: [{ name: "reason", label: "Reason", required: true }],
      danger: true,
      onDone: (result) => pages.reload(result.position),
    });
  const cancels = ({ status, ends_at_us }) => mayPost("cancel_period") && ["open", "closed"].includes(status) && us > ends_at_us + CANCEL_AFTER_US;
  return html`<${Section} title="Periods and results" tools=${html`<button type="button" onClick=${() => pages.reload()}>Refresh</button>`}>
    <${PagedTable}
      label=${`Periods of ${game}`}
      pages=${pages}
      keyOf=${({ period }) => period}
      empty="No period had a bet or a result yet."
      columns=${[
        { title: "Period", cell: ({ period }) => period },
        { title: "State", cell: ({ status }) => html`<${Badge} tone=${tone(status)}>${status}<//>` },
        { title: "Actions", cell: (row) => cancels(row) && html`<button type="button" class="small" onClick=${() => cancel(row)}>Cancel …</button>` },
        { title: "Result", cell: ({ result, proof }) => html`${result ?? "—"} ${proof && html`<${Proof} proof=${proof} />`}` },
        { title: "Bets", number: true, cell: ({ open_bets, settled_bets }) => count(open_bets + settled_bets) },
        { title: "Staked", number: true, cell: ({ staked }) => sums(staked) },
        { title: "Paid out", number: true, cell: ({ paid_out }) => sums(paid_out) },
        { title: "Ended", cell: ({ ends_at_us }) => html`<${Time} us=${ends_at_us} />` },
      ]}
    />
  <//>`;
}

/** Sums of the items of /v1/house by game, the largest stakes first. The edges are for the eye only, so they are floats. */
export function byGame(items) {
  const games = new Map();
  for (const { game, bets, staked, paid_out, expected_edge_ppm } of items) {
    if (game === null || !Number(staked)) continue;
    const sum = games.get(game) ?? { game, bets: 0, staked: 0n, paid_out: 0n, expected: 0, priced: 0 };
    sum.bets += Number(bets);
    sum.staked += BigInt(staked);
    sum.paid_out += BigInt(paid_out);
    if (expected_edge_ppm !== null) {
      sum.expected += Number(expected_edge_ppm) * Number(staked);
      sum.priced += Number(staked);
    }
    games.set(game, sum);
  }
  return [...games.values()]
    .map((sum) => ({
      ...sum,
      realised_ppm: (1e6 * Number(sum.staked - sum.paid_out)) / Number(sum.staked),
      expected_ppm: sum.priced ? sum.expected / sum.priced : null,
    }))
    .sort((one, other) => Number(other.staked - one.staked));
}

/** Two bars about a zero line: realised above expected. */
function EdgeBars({ realised, expected, most }) {
  const bar = (value, name) => {
    const width = (50 * Math.abs(value)) / most;
    return html`<i class=${name} style=${{ left: `${value < 0 ? 50 - width : 50}%`, width: `${width}%` }}></i>`;
  };
  return html`<div class="edges" role="img" aria-label=${`realised ${ppm(realised)}, expected ${ppm(expected)}`}>
    ${bar(realised, "line-1")}${expected !== null && bar(expected, "line-2")}
  </div>`;
}

function Edges({ game }) {
  const assets = Object.keys(current().assets);
  const [asset, setAsset] = useState(assets[0]);
  const [days, setDays] = useState("1");
  const [from] = useState(() => nowUs());
  const by = days === "31" ? "day" : "hour";
  const house = useRead(`/v1/house?asset=${asset}&by=${by}&from_us=${from - Number(days) * DAY_US + DAY_US / 24}`, 60);
  const items = house.data?.items ?? [];
  const games = byGame(items);
  const most = Math.max(1, ...games.map(({ realised_ppm, expected_ppm }) => Math.max(Math.abs(realised_ppm), Math.abs(expected_ppm ?? 0))));
  const own = items.filter((item) => item.game === game && item.edge_ppm !== null).reverse();
  return html`<${Section}
    title="Edge, realised and expected"
    tools=${html`<${Field} label="Asset" value=${asset} onInput=${setAsset} options=${assets.map((name) => [name, name])} />
      <${Field} label="Time" value=${days} onInput=${setDays} options=${RANGES} />`}
  >
    <${Failure} error=${house.error} />
    <p class="quiet">Stakes of bets that are still open count as won until they are paid.
      <span class="key"><i class="line-1" aria-hidden="true"></i>realised</span> <span class="key"><i class="line-2" aria-hidden="true"></i>expected</span></p>
    <${Table}
      label="Edge by game"
      rows=${house.data && games}
      keyOf=${(row) => row.game}
      empty="No bet in this time."
      columns=${[
        { title: "Game", cell: (row) => html`<a href=${`#/games/${encodeURIComponent(row.game)}`}>${row.game}</a>` },
        { title: "Bets", number: true, cell: ({ bets }) => count(bets) },
        { title: "Staked", number: true, cell: ({ staked }) => money(staked, asset) },
        { title: "Paid out", number: true, cell: ({ paid_out }) => money(paid_out, asset) },
        { title: "Realised", number: true, cell: ({ realised_ppm }) => ppm(realised_ppm) },
        { title: "Expected", number: true, cell: ({ expected_ppm }) => ppm(expected_ppm) },
        { title: "−  0  +", cell: ({ realised_ppm, expected_ppm }) => html`<${EdgeBars} realised=${realised_ppm} expected=${expected_ppm} most=${most} />` },
      ]}
    />
    ${own.length > 1 &&
    html`<${Plot}
      title=${`${game}, by the ${by}`}
      unit="%"
      times=${own.map((item) => item.from_us / 1e6)}
      series=${[
        { label: "realised", colour: "line-1", values: own.map((item) => Number(item.edge_ppm) / 1e4) },
        { label: "expected", colour: "line-2", values: own.map((item) => (item.expected_edge_ppm === null ? null : Number(item.expected_edge_ppm) / 1e4)) },
      ]}
    />`}
    ${house.data?.warnings?.length > 0 &&
    html`<details><summary>${house.data.warnings.length} warnings about the rules</summary>
      <ul>${house.data.warnings.map(({ message }) => html`<li>${message}</li>`)}</ul></details>`}
  <//>`;
}

function Games({ rest }) {
  const games = useRead("/v1/games");
  const us = useClock();
  if (!games.data) return html`<${Failure} error=${games.error} />${!games.error && html`<p class="quiet">Loading …</p>`}`;
  const running = games.data.items.filter(({ length_s }) => length_s !== null);
  const game = running.find((one) => one.game === rest[0]) ?? running.find((one) => one.game.endsWith("_1m")) ?? running[0];
  if (!game) return html`<p class="quiet">There are no games with periods.</p>`;
  const ends = ({ length_s }) => length_s * 1e6 - (us % (length_s * 1e6));
  return html`<${Section} title="Running now">
      <ul class="games">
        ${running.map(
          (one) => html`<li><a href=${`#/games/${encodeURIComponent(one.game)}`} aria-current=${one === game ? "true" : undefined}>
            <b>${one.game}</b> <span>${left(ends(one))}</span></a></li>`,
        )}
      </ul>
    <//>
    <${Section} title=${`${game.game}: present period`}><${Present} key=${game.game} game=${game.game} /><//>
    <${Results} key=${`results ${game.game}`} game=${game.game} />
    <${Edges} game=${game.game} />`;
}

export const games = { id: "games", title: "Games", View: Games };
