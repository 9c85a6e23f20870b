// The tabs, from left to right. `roles`: which may see it, all unless told; README.md says how a tab is made.
import { now } from "./now.js";

export const TABS = [now];
