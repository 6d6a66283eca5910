// Connects, publishes at QoS 1 and leaves: status 0 if the broker let it in.
// Arguments: the broker's URL, a file with its authority, and a client's certificate and key if any.

import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [url, ca, cert, key] = process.argv.slice(2);
const client = mqtt.connect(url, {
  reconnectPeriod: 0,
  connectTimeout: 10_000,
  ca: readFileSync(ca),
  ...(cert ? { cert: readFileSync(cert), key: readFileSync(key) } : {}),
});
client.on("error", (error) => {
  console.error(error.message);
  process.exit(1);
});
client.on("close", () => process.exit(1));
client.on("connect", async () => {
  await client.publishAsync("tls", "x", { qos: 1 });
  process.exit(0);
});
