// The page: login, tabs, and the theme.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Dialogs } from "./command.js";
import { html } from "./html.js";
import { Failure, Field } from "./parts.js";
import { current, isRole, logIn, logOut, onSession, renew } from "./session.js";
import "./style.css";
import { TABS } from "./tabs/index.js";

const THEMES = [
  ["auto", "Theme: system"],
  ["light", "Theme: light"],
  ["dark", "Theme: dark"],
];
const THEME = "stakelog-theme";

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.dispatchEvent(new Event("themechange"));
}

function Theme() {
  const [theme, set] = useState(() => localStorage.getItem(THEME) ?? "auto");
  const choose = (event) => {
    localStorage.setItem(THEME, event.target.value);
    set(event.target.value);
    setTheme(event.target.value);
  };
  return html`<select aria-label="Theme" class="theme" value=${theme} onChange=${choose}>
    ${THEMES.map(([value, text]) => html`<option value=${value} selected=${value === theme}>${text}</option>`)}
  </select>`;
}

function Login() {
  const [id, setId] = useState("");
  const [secret, setSecret] = useState("");
  const [state, setState] = useState({ busy: false, error: null });
  const submit = async (event) => {
    event.preventDefault();
    setState({ busy: true, error: null });
    try {
      await logIn(id.trim(), secret);
    } catch (error) {
      setSecret("");
      setState({ busy: false, error });
    }
  };
  return html`<main id="main" class="login">
    <form onSubmit=${submit}>
      <h1>stakelog</h1>
      <p>For operators, auditors and admins.</p>
      <${Field} label="Client" name="client_id" value=${id} onInput=${setId} autocomplete="username" required autofocus />
      <${Field} label="Secret" name="client_secret" type="password" value=${secret} onInput=${setSecret} autocomplete="current-password" required />
      <${Failure} error=${state.error} />
      <div class="buttons"><${Theme} /><button class="main" disabled=${state.busy}>Log in</button></div>
    </form>
  </main>`;
}

/** "#/player/u%201" → ["player", "u 1"]. */
function route() {
  return location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
}

function useRoute() {
  const [found, set] = useState(route);
  useEffect(() => {
    const change = () => set(route());
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
  return found;
}

function Page() {
  const [, update] = useState(0);
  const [name, ...rest] = useRoute();
  useEffect(() => onSession(() => update((number) => number + 1)), []);
  const session = current();
  if (session.login && session.access_token === null) return html`<${Login} />`;
  const tabs = TABS.filter(({ roles, needsLogin }) => (!roles || isRole(...roles)) && (!needsLogin || session.login));
  const tab = tabs.find(({ id }) => id === name) ?? tabs[0];
  document.title = `${tab.title} · stakelog`;
  return html`<a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.getElementById("main").focus();
    }}>Skip to the content</a>
    <header class="top">
      <b class="name">stakelog</b>
      <nav aria-label="Tabs">
        ${tabs.map(({ id, title }) => html`<a href=${`#/${id}`} aria-current=${tab.id === id ? "page" : undefined}>${title}</a>`)}
      </nav>
      <div class="who">
        <span>${session.login ? html`${session.client_id} <small>${session.role}</small>` : html`<small>login is off</small>`}</span>
        <${Theme} />
        ${session.login && html`<button type="button" onClick=${() => logOut().catch(() => location.reload())}>Log out</button>`}
      </div>
    </header>
    <main id="main" tabindex="-1"><h1>${tab.title}</h1><${tab.View} key=${tab.id} rest=${rest} /></main>
    <${Dialogs} />`;
}

setTheme(localStorage.getItem(THEME) ?? "auto");
renew().then(
  () => render(html`<${Page} />`, document.body),
  (error) => render(html`<main class="login"><${Failure} error=${error} /><button onClick=${() => location.reload()}>Try again</button></main>`, document.body),
);
