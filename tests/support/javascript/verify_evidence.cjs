// Verify the DSSE envelopes of a folder with Node's own crypto: node verify_evidence.cjs FOLDER KEYS.json
// KEYS.json maps the id of each key to its PEM. Prints a JSON list of the files that do not verify.
const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

const [folder, keysFile] = process.argv.slice(2);
const keys = JSON.parse(fs.readFileSync(keysFile, "utf8"));

function holds(file) {
  const envelope = JSON.parse(fs.readFileSync(file, "utf8"));
  const payload = Buffer.from(envelope.payload, "base64");
  const type = Buffer.from(envelope.payloadType);
  const message = Buffer.concat([
    Buffer.from(`DSSEv1 ${type.length} `), type, Buffer.from(` ${payload.length} `), payload,
  ]);
  const { keyid, sig } = envelope.signatures[0];
  const known = keys[keyid] !== undefined;
  return known && crypto.verify(null, message, crypto.createPublicKey(keys[keyid]), Buffer.from(sig, "base64"));
}

const files = fs.readdirSync(folder).filter((name) => name.endsWith(".dsse.json")).sort();
process.stdout.write(JSON.stringify(files.filter((name) => !holds(path.join(folder, name)))));
