// The clients of the service, for admins.
import { askRequest } from "../command.js";
import { html } from "../html.js";
import { Badge, Copyable, Failure, Section, Table, Time } from "../parts.js";
import { useRead } from "../reads.js";

const ROLES = ["game_server", "operator", "auditor", "admin"];

function Secret({ result }) {
  return html`<p>The secret of <b>${result.client_id}</b> is shown only now. Keep it where secrets are kept.</p>
    <${Copyable} text=${result.client_secret} label="Copy secret" />`;
}

function Clients() {
  const { data, error, reload } = useRead("/v1/clients");
  const add = () =>
    askRequest({
      title: "Add a client",
      about: "Its role cannot be changed later, nor what it is narrowed to. A narrower one is a new client: then disable the old one.",
      method: "POST",
      path: "/v1/clients",
      body: {},
      fields: [
        { name: "client_id", label: "Client id", required: true },
        { name: "role", label: "Role", options: ROLES.map((role) => [role, role]), value: "operator", required: true },
        { name: "types", label: "Only these types of commands", kind: "list", hint: "separated by spaces; empty: all that the role may post" },
        { name: "games", label: "Only these games", kind: "list", hint: "separated by spaces; empty: all" },
      ],
      Result: Secret,
      onDone: reload,
    });
  const narrow = ({ client_id, role, types, games }) =>
    askRequest({
      title: `Add a narrower client than ${client_id}`,
      about: "It gets a secret of its own. When its program uses it, disable the client before.",
      method: "POST",
      path: "/v1/clients",
      body: { role },
      fields: [
        { name: "client_id", label: "Client id", required: true, value: `${client_id}-narrow` },
        { name: "types", label: "Only these types of commands", kind: "list", value: (types ?? []).join(" "), hint: "separated by spaces; empty: all that the role may post" },
        { name: "games", label: "Only these games", kind: "list", value: (games ?? []).join(" "), hint: "separated by spaces; empty: all" },
      ],
      Result: Secret,
      onDone: reload,
    });
  const rotate = ({ client_id }) =>
    askRequest({
      title: `Give ${client_id} a new secret`,
      about: "Without a grace the present secret, and all logins with it, end at once.",
      method: "POST",
      path: `/v1/clients/${encodeURIComponent(client_id)}/rotate`,
      body: {},
      fields: [{ name: "grace_s", label: "The present secret stays valid for so many seconds", kind: "integer", value: "0" }],
      danger: true,
      Result: Secret,
      onDone: reload,
    });
  const disable = ({ client_id }) =>
    askRequest({
      title: `Disable ${client_id}`,
      about: "Its tokens are refused within 5 s. Its id is not given again.",
      method: "DELETE",
      path: `/v1/clients/${encodeURIComponent(client_id)}`,
      danger: true,
      again: true,
      onDone: reload,
    });
  return html`<${Section} title="Clients" tools=${html`<button type="button" class="main" onClick=${add}>Add client …</button>`}>
    <${Failure} error=${error} />
    <${Table}
      label="Clients"
      rows=${data?.items}
      keyOf=${({ client_id }) => client_id}
      columns=${[
        { title: "Client", cell: ({ client_id }) => client_id },
        { title: "Role", cell: ({ role }) => role },
        { title: "State", cell: ({ disabled_at_us }) => (disabled_at_us === null ? html`<${Badge} tone="good">enabled<//>` : html`<${Badge}>disabled<//>`) },
        {
          title: "Actions",
          cell: (client) =>
            client.disabled_at_us === null &&
            html`<button type="button" class="small" onClick=${() => narrow(client)}>Narrow …</button>${" "}
              <button type="button" class="small" onClick=${() => rotate(client)}>Rotate …</button>${" "}
              <button type="button" class="small" onClick=${() => disable(client)}>Disable …</button>`,
        },
        { title: "Types", cell: ({ types }) => types?.join(", ") ?? "all" },
        { title: "Games", cell: ({ games }) => games?.join(", ") ?? "all" },
        { title: "Signs requests", cell: ({ public_key }) => (public_key ? "yes" : "no") },
        { title: "Secret since", cell: ({ secret_since_us }) => html`<${Time} us=${secret_since_us} />` },
        { title: "Old secret until", cell: ({ old_secret_until_us }) => html`<${Time} us=${old_secret_until_us} />` },
      ]}
    />
  <//>`;
}

export const clients = { id: "clients", title: "Clients", View: Clients, roles: ["admin"], needsLogin: true };
