// The tabs, from left to right. `roles`: which may see it, all unless told; README.md says how a tab is made.
import { clients } from "./clients.js";
import { games } from "./games.js";
import { now } from "./now.js";
import { player } from "./player.js";
import { proof } from "./proof.js";
import { work } from "./work.js";

export const TABS = [now, player, work, games, proof, clients];
