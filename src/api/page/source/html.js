// Preact's `h` as a template tag.
import htm from "htm";
import { h } from "preact";

export const html = htm.bind(h);
