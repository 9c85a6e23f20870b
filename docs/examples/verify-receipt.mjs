// Checks a receipt without a service: node verify-receipt.mjs receipt.json jwks.json
// Exit status: 0 the holder of the key had this record at this place, 1 not so, 2 wrong use.
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

function end(status, text) {
  console.log(text);
  process.exit(status);
}

let receipt, jwks;
try {
  [receipt, jwks] = process.argv.slice(2, 4).map((path) => JSON.parse(readFileSync(path, "utf8")));
} catch (error) {
  end(2, `cannot be read: ${error.message}`);
}
const { record, head, partition, seq, signed_at_us, kid, signature } = receipt;
if (createHash("sha256").update(record, "utf8").digest("hex") !== head) {
  end(1, "the head is not the hash of the record");
}
const event = JSON.parse(record);
if (event.partition !== partition || event.seq !== seq) {
  end(1, `the record is that of partition ${event.partition}, seq ${event.seq}`);
}
const jwk = jwks.keys.find((key) => key.kid === kid && key.kty === "OKP" && key.crv === "Ed25519");
if (jwk === undefined) {
  end(1, `the key ${kid} is not among the given keys`);
}
const text = Buffer.from(`stakelog-receipt:${partition}:${seq}:${head}:${signed_at_us}`, "utf8");
const key = createPublicKey({ key: jwk, format: "jwk" });
if (!verify(null, text, key, Buffer.from(signature, "base64url"))) {
  end(1, "the signature is not the key's");
}
end(0, `well: partition ${partition}, seq ${seq}`);
