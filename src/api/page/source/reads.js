// Hooks that read from the service.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { read } from "./session.js";

/**
 * Reads `path` now, and again every `everyS` seconds while the page is visible. A null path reads nothing.
 * Returns { data, error, reload }; `data` stays while a later read fails.
 */
export function useRead(path, everyS = 0) {
  const [state, setState] = useState({ path: null, data: null, error: null });
  const latest = useRef(0);
  const reload = useCallback(async () => {
    if (path === null) return;
    const number = ++latest.current;
    const set = (change) => number === latest.current && setState((old) => ({ ...old, path, ...change }));
    try {
      set({ data: await read(path), error: null });
    } catch (error) {
      set({ error });
    }
  }, [path]);
  useEffect(() => {
    reload();
    const stop = everyS ? every(everyS, reload) : () => {};
    return () => {
      latest.current++;
      stop();
    };
  }, [reload, everyS]);
  const known = state.path === path;
  return { data: known ? state.data : null, error: known ? state.error : null, reload };
}

/** Calls `work` every `seconds` while the page is visible, and when it becomes visible. Returns what ends this. */
export function every(seconds, work) {
  const onTime = () => document.hidden || work();
  const timer = setInterval(onTime, seconds * 1000);
  document.addEventListener("visibilitychange", onTime);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", onTime);
  };
}

/**
 * A list that has pages. `path` has no cursor. Returns { items, error, more, loading, next, reload }: `next` reads the
 * next page and appends it; `reload` starts again, and waits for `position` first, if it is given.
 */
export function usePages(path) {
  const [state, setState] = useState({ path: null, items: null, cursor: null, error: null, loading: false });
  const latest = useRef(0);
  const load = useCallback(
    async (cursor, position) => {
      if (path === null) return;
      const number = ++latest.current;
      const set = (change) => number === latest.current && setState((old) => ({ ...old, path, loading: false, ...change }));
      setState((old) => ({ ...old, loading: true }));
      const extra = cursor ? `cursor=${encodeURIComponent(cursor)}` : position ? `min_position=${position}` : "";
      const asked = extra ? path + (path.includes("?") ? "&" : "?") + extra : path;
      try {
        const page = await read(asked);
        setState((old) => {
          if (number !== latest.current) return old;
          const items = cursor ? [...old.items, ...page.items] : page.items;
          return { path, items, cursor: page.next_cursor ?? null, error: null, loading: false };
        });
      } catch (error) {
        set({ error });
      }
    },
    [path],
  );
  useEffect(() => {
    load(null);
    return () => latest.current++;
  }, [load]);
  const known = state.path === path;
  return {
    items: known ? state.items : null,
    error: known ? state.error : null,
    more: known && state.cursor !== null,
    loading: state.loading,
    next: () => load(state.cursor),
    reload: (position) => load(null, position),
  };
}
