// Checks what a broker does for MQTT.js. Argument: the broker's URL.
// Prints "ok" and what was checked, a line each. An assertion that fails ends it with status 1.

import assert from "node:assert/strict";
import { once } from "node:events";
import mqtt from "mqtt";

const url = process.argv[2];

// Ends the script when the broker does not answer: a test must not hang.
setTimeout(() => {
  console.error("no answer within 30 s");
  process.exit(1);
}, 30_000).unref();

async function connect(options = {}) {
  const client = mqtt.connect(url, { reconnectPeriod: 0, ...options });
  client.on("error", (error) => {
    throw error;
  });
  client.waiting = [];
  client.arrived = [];
  client.on("message", (topic, payload, packet) => {
    const message = [topic, payload.toString(), packet.qos, packet.retain];
    const taker = client.waiting.shift();
    taker ? taker(message) : client.arrived.push(message);
  });
  const [connack] = await once(client, "connect");
  client.sessionPresent = connack.sessionPresent;
  return client;
}

function received(client) {
  if (client.arrived.length > 0) {
    return client.arrived.shift();
  }
  return new Promise((resolve) => client.waiting.push(resolve));
}

async function everyQosGoesBothWays() {
  const client = await connect();
  for (const granted of [0, 1, 2]) {
    const answer = await client.subscribeAsync("qos/#", { qos: granted });
    assert.equal(answer[0].qos, granted);
    for (const published of [0, 1, 2]) {
      await client.publishAsync(`qos/${published}`, "hello", { qos: published });
      const expected = [`qos/${published}`, "hello", Math.min(granted, published), false];
      assert.deepEqual(await received(client), expected);
    }
  }
  await client.endAsync();
}

async function aRetainedMessageIsSetAndCleared() {
  const client = await connect();
  await client.publishAsync("kept/a", "state", { qos: 1, retain: true });
  await client.subscribeAsync("kept/#", { qos: 2 });
  assert.deepEqual(await received(client), ["kept/a", "state", 1, true]);
  await client.publishAsync("kept/a", "", { qos: 1, retain: true });
  assert.deepEqual(await received(client), ["kept/a", "", 1, false]);
  await client.endAsync();
}

async function aKeptSessionGetsWhatItMissed() {
  const kept = { clientId: "keeper", clean: false };
  const before = await connect(kept);
  assert.equal(before.sessionPresent, false);
  await before.subscribeAsync("missed", { qos: 2 });
  await before.endAsync();

  const publisher = await connect();
  // One QoS after the other: a message of QoS 2 is handed out only at its PUBREL.
  for (let number = 0; number < 50; number += 1) {
    await publisher.publishAsync("missed", String(number), { qos: number < 25 ? 1 : 2 });
  }
  await publisher.endAsync();

  const after = await connect(kept);
  assert.equal(after.sessionPresent, true);
  for (let number = 0; number < 50; number += 1) {
    const expected = ["missed", String(number), number < 25 ? 1 : 2, false];
    assert.deepEqual(await received(after), expected);
  }
  await after.endAsync();
}

for (const check of [
  everyQosGoesBothWays,
  aRetainedMessageIsSetAndCleared,
  aKeptSessionGetsWhatItMissed,
]) {
  await check();
  console.log("ok", check.name);
}
