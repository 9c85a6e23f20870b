// The last hour of all nodes, the nodes and partitions, and what an operator should look at.
import { useEffect, useRef, useState } from "preact/hooks";
import { count, figure, money, short } from "../format.js";
import { html } from "../html.js";
import { Badge, Facts, Failure, Field, Section, Table } from "../parts.js";
import { Plot } from "../plot.js";
import { every, useRead } from "../reads.js";
import { current, read } from "../session.js";

const EVERY_S = 5;
const HOUR_US = 3_600_000_000;
const HOUSE = [
  ["house/stakes", "stakes", 1],
  ["house/payouts", "payouts", -1],
  ["house/deposits", "deposits", -1],
  ["house/withdrawals", "withdrawals", 1],
];

/** Below this duration are `share` of the requests: Prometheus' estimate, in milliseconds. Null: there was none. */
export function quantile(share, counts, bounds) {
  const total = counts.reduce((sum, number) => sum + number, 0);
  if (total === 0) return null;
  let before = 0;
  for (let index = 0; index < bounds.length; index++) {
    if (before + counts[index] >= share * total) {
      const low = index ? bounds[index - 1] : 0;
      return (low + ((bounds[index] - low) * (share * total - before)) / counts[index]) * 1000;
    }
    before += counts[index];
  }
  return bounds.at(-1) * 1000;
}

/** The samples of all nodes, added up in steps of five seconds. */
export function merge(nodes, bounds) {
  const steps = new Map();
  for (const samples of nodes) {
    for (const [time_us, took_s, accepted, repeated, refused, failed, durations, lag_ms, waiting] of samples) {
      const at = Math.round(time_us / 1e6 / EVERY_S) * EVERY_S;
      const step = steps.get(at) ?? { accepted: 0, refused: 0, failed: 0, all: 0, durations: bounds.map(() => 0).concat(0), lag: null, waiting: 0 };
      step.accepted += accepted / took_s;
      step.refused += refused / took_s;
      step.failed += failed / took_s;
      step.all += (accepted + repeated + refused + failed) / took_s;
      durations.forEach((number, index) => (step.durations[index] += number));
      if (lag_ms !== null) step.lag = Math.max(step.lag ?? 0, lag_ms);
      step.waiting += waiting;
      steps.set(at, step);
    }
  }
  const times = [...steps.keys()].sort((one, other) => one - other);
  const column = (of) => times.map((at) => of(steps.get(at)));
  return {
    times,
    all: column((step) => step.all),
    accepted: column((step) => step.accepted),
    refused: column((step) => step.refused),
    failed: column((step) => step.failed),
    p50: column((step) => quantile(0.5, step.durations, bounds)),
    p99: column((step) => quantile(0.99, step.durations, bounds)),
    lag: column((step) => step.lag),
    waiting: column((step) => step.waiting),
  };
}

/** Reads the last hour once, and then what is new. */
function useHour() {
  const kept = useRef({ nodes: new Map(), house: [] });
  const [state, setState] = useState({ now: null, error: null });
  useEffect(() => {
    let ended = false;
    const step = async () => {
      const { nodes, house } = kept.current;
      // A node that does not respond has no samples; because of it the whole hour of the others must not be read each time.
      const last = [...nodes.values()].filter((samples) => samples.length).map((samples) => samples.at(-1)[0]);
      const since = last.length ? Math.max(0, Math.min(...last, house.at(-1)?.[0] ?? Infinity)) : 0;
      try {
        const found = await read(`/admin/now?since_us=${since}`);
        if (ended) return;
        const append = (before, after) => {
          const end = before.at(-1)?.[0] ?? 0;
          return [...before, ...after.filter(([at]) => at > end)].filter(([at]) => at > found.time_us - HOUR_US);
        };
        const next = new Map();
        for (const node of found.nodes) next.set(node.address, append(nodes.get(node.address) ?? [], node.samples));
        kept.current = { nodes: next, house: append(house, found.house) };
        setState({ now: found, hour: merge([...next.values()], found.bounds_s), house: kept.current.house, error: null });
      } catch (error) {
        if (!ended) setState((old) => ({ ...old, error }));
      }
    };
    step();
    const stop = every(EVERY_S, step);
    return () => {
      ended = true;
      stop();
    };
  }, []);
  return state;
}

function House({ house, from, to }) {
  const assets = Object.keys(current().assets);
  const [asset, setAsset] = useState(assets[0]);
  const first = house[0]?.[1] ?? {};
  const change = (accounts, account, sign) =>
    sign * Number(BigInt(accounts[`${account} ${asset}`] ?? 0) - BigInt(first[`${account} ${asset}`] ?? 0));
  const exponent = 10 ** (current().assets[asset] ?? 0);
  return html`<${Plot}
      title="House, change in this time"
      unit=${asset}
      from=${from}
      to=${to}
      times=${house.map(([at]) => at / 1e6)}
      series=${HOUSE.map(([account, label, sign], index) => ({
        label,
        colour: `line-${index + 1}`,
        values: house.map(([, accounts]) => change(accounts, account, sign) / exponent + 0),
      }))}
    />
    <${Field} label="Asset" value=${asset} onInput=${setAsset} options=${assets.map((name) => [name, name])} />
    <${Facts}
      of=${Object.entries(house.at(-1)?.[1] ?? {})
        .filter(([name]) => name.endsWith(` ${asset}`))
        .map(([name, balance]) => [name.split(" ")[0], money(balance, asset)])}
    />`;
}

function Now() {
  const { now, hour, house, error } = useHour();
  const partitions = useRead("/v1/partitions", EVERY_S);
  if (!now) return html`<${Failure} error=${error} />${!error && html`<p class="quiet">Loading …</p>`}`;
  const alarms = now.nodes.flatMap((node) => node.alarms.map((alarm) => ({ ...alarm, node: node.address })));
  const standbys = new Map(now.nodes.flatMap((node) => node.standby.map((partition) => [partition, node.address])));
  const to = now.time_us / 1e6;
  const from = to - 3600;
  const plot = { times: hour.times, from, to };
  const line = (label, values, number) => ({ label, values, colour: `line-${number}` });
  return html`<${Failure} error=${error} />
    <${Section} title="Alarms">
      ${alarms.length === 0
        ? html`<p role="status"><${Badge} tone="good">None<//></p>`
        : html`<ul class="alarms">
            ${alarms.map(
              ({ severity, text, node }) => html`<li>
                <${Badge} tone=${severity === "critical" ? "bad" : "warn"}>${severity}<//> ${text}
                ${now.nodes.length > 1 && html` <small>${node}</small>`}
              </li>`,
            )}
          </ul>`}
    <//>
    <${Section} title="The last hour">
      <div class="plots">
        <${Plot} ...${plot} title="Commands" unit="/s" series=${[line("all", hour.all, 4), line("accepted", hour.accepted, 1)]} />
        <${Plot} ...${plot} title="Not accepted" unit="/s" series=${[line("refused", hour.refused, 2), line("failed", hour.failed, 3)]} />
        <${Plot} ...${plot} title="Time to answer commands" unit="ms" series=${[line("p50", hour.p50, 1), line("p99", hour.p99, 2)]} />
        <${Plot} ...${plot} title="Lag of reads" unit="ms" series=${[line("lag", hour.lag, 1)]} />
        <${Plot} ...${plot} title="Waiting" series=${[line("commands", hour.waiting, 1)]} />
        <div><${House} house=${house} from=${from} to=${to} /></div>
      </div>
    <//>
    <${Section} title="Nodes">
      <${Table}
        label="Nodes"
        rows=${now.nodes}
        keyOf=${(node) => node.address}
        columns=${[
          { title: "Node", cell: (node) => node.address },
          { title: "State", cell: (node) => html`<${Badge} tone=${node.ready ? "good" : "bad"}>${node.ready ? "accepts commands" : "accepts no commands"}<//>` },
          { title: "Partitions", number: true, cell: (node) => node.partitions.length },
          { title: "Standby for", number: true, cell: (node) => node.standby.length },
          { title: "Live feeds", number: true, cell: (node) => node.feeds },
        ]}
      />
    <//>
    <${Section} title="Partitions">
      <${Failure} error=${partitions.error} />
      <${Table}
        label="Partitions"
        rows=${partitions.data?.items}
        keyOf=${({ partition }) => partition}
        columns=${[
          { title: "Partition", number: true, cell: ({ partition }) => partition },
          { title: "Events", number: true, cell: ({ seq }) => count(seq) },
          { title: "Head", cell: ({ head }) => html`<code title=${head}>${short(head)}</code>` },
          { title: "Owner", cell: ({ owner }) => owner ?? html`<${Badge} tone="bad">none<//>` },
          { title: "Standby", cell: ({ partition }) => standbys.get(partition) ?? "—" },
        ]}
      />
    <//>`;
}

export const now = { id: "now", title: "Now", View: Now };
