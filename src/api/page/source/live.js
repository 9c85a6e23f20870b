// A live feed over a WebSocket, which can carry the token; it continues where it broke off.
import { useEffect, useState } from "preact/hooks";
import { parseJson, token } from "./session.js";

const AGAIN_MS = 1000;
const AGAIN_MS_MAX = 15_000;

/**
 * Follows `/v1/live/ws?query`. Returns { events, error }: the last event of each of `kinds`, and a message while the
 * feed is broken. `onEvent(kind, data)` is called for each event, if it is given.
 */
export function useFeed(query, kinds, onEvent) {
  const [state, setState] = useState({ events: {}, error: null });
  useEffect(() => {
    let socket = null;
    let timer = null;
    let lastId = "";
    let ended = false;
    let pause = AGAIN_MS;
    const again = (reason) => {
      if (ended) return;
      setState((old) => ({ ...old, error: new Error(`The live feed broke (${reason}); it continues by itself.`) }));
      timer = setTimeout(follow, pause);
      pause = Math.min(2 * pause, AGAIN_MS_MAX);
    };
    const follow = async () => {
      let access;
      try {
        access = await token();
      } catch (error) {
        return again(error.message);
      }
      if (ended) return;
      const path = `/v1/live/ws?${query}${lastId && `&last_event_id=${encodeURIComponent(lastId)}`}`;
      const url = new URL(path, location.href);
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      let reason = "no connection";
      socket = new WebSocket(url, access === null ? ["stakelog"] : ["stakelog", `bearer.${access}`]);
      socket.onmessage = ({ data: text }) => {
        const { id, event, data } = parseJson(text);
        lastId = id ?? lastId;
        pause = AGAIN_MS;
        if (event === "dropped") reason = data.reason;
        else if (kinds.includes(event)) setState((old) => ({ events: { ...old.events, [event]: data }, error: null }));
        else if (event !== undefined) setState((old) => (old.error ? { ...old, error: null } : old));
        if (event && kinds.includes(event)) onEvent?.(event, data);
      };
      socket.onclose = () => again(reason);
    };
    follow();
    return () => {
      ended = true;
      clearTimeout(timer);
      socket?.close();
    };
  }, [query]);
  return state;
}
