// Shows every nightlight of the broker that serves this page, and switches its LED.
//
// `?broker=ws://host:port/mqtt` names another broker.

const HISTORY = 60; // seconds that the plots show
const THRESHOLD = 300; // below it the lesson's server switches on
const BRIGHTEST = 1023;
const PLOT_HEIGHT = 110;

// A device of the lesson does not say when it goes: so long after its last word it is taken for gone.
const SILENCE = 30;

const list = document.getElementById("devices");
const link = document.getElementById("link");
const devices = new Map();
const changed = new Set();

const [mqtt, uPlot] = await load();

async function load() {
  try {
    const modules = await Promise.all([
      import("./node_modules/mqtt/dist/mqtt.esm.js"),
      import("./node_modules/uplot/dist/uPlot.esm.js"),
    ]);
    return modules.map((module) => module.default);
  } catch (error) {
    link.textContent = "The page's packages are missing: npm ci in examples/nightlight/web";
    throw error;
  }
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
const now = () => Date.now() / 1000;

/** One nightlight: what is known of it, and its card. */
class Device {
  constructor(id) {
    this.id = id;
    this.ledOn = false;
    this.online = null; // null until it has told
    this.heard = 0;
    this.times = [];
    this.lights = [];
    this.card = document.getElementById("device").content.cloneNode(true).firstElementChild;
    this.card.dataset.id = id;
    this.part("h2").textContent = id;
    this.part(".switch").onclick = () => command(id, !this.ledOn);
    this.part(".forget").onclick = () => forget(id);
    // In the order of their names, wherever they come in between.
    const after = [...list.children].find((card) => card.dataset.id.localeCompare(id) > 0);
    list.insertBefore(this.card, after ?? null);
    this.plot = new uPlot(this.plotOptions(), [[], []], this.part(".plot"));
    const resized = () => this.plot.setSize({ width: this.width(), height: PLOT_HEIGHT });
    this.observer = new ResizeObserver(resized);
    this.observer.observe(this.part(".plot"));
  }

  part(selector) {
    return this.card.querySelector(selector);
  }

  width() {
    return this.part(".plot").clientWidth;
  }

  plotOptions() {
    const quiet = { stroke: () => color("--quiet"), grid: { show: false }, ticks: { show: false } };
    return {
      width: this.width(),
      height: PLOT_HEIGHT,
      padding: [8, 14, 0, 0],
      cursor: { show: false },
      legend: { show: false },
      scales: {
        x: { time: false, range: () => [-HISTORY, 0] },
        y: { range: () => [0, BRIGHTEST] },
      },
      axes: [
        { ...quiet, size: 24, values: (_, splits) => splits.map((split) => `${split} s`) },
        { ...quiet, size: 44, splits: () => [0, THRESHOLD, BRIGHTEST], values: (_, at) => at },
      ],
      series: [
        {},
        {
          stroke: () => color("--light"),
          fill: () => color("--fill"),
          width: 2,
          points: { show: false },
        },
      ],
      hooks: { draw: [drawThreshold] },
    };
  }

  insertLight(light) {
    this.heard = now();
    this.times.push(this.heard);
    this.lights.push(light);
    this.forgetOld();
  }

  forgetOld() {
    // One point older than the plot is kept: the line comes from there.
    const old = this.times.findIndex((time) => time > now() - HISTORY) - 1;
    if (old > 0) {
      this.times.splice(0, old);
      this.lights.splice(0, old);
    }
  }

  get isOnline() {
    return this.online ?? now() - this.heard < SILENCE;
  }

  draw() {
    const is = (name, value) => this.card.classList.toggle(name, value);
    is("online", this.isOnline);
    is("offline", !this.isOnline);
    this.part(".presence").textContent = this.isOnline ? "online" : "offline";
    this.part(".light output").textContent = this.lights.at(-1) ?? "–";
    this.part(".led").classList.toggle("on", this.ledOn);
    this.part(".led").ariaLabel = this.ledOn ? "LED on" : "LED off";
    this.part(".switch").textContent = this.ledOn ? "Switch off" : "Switch on";
    this.part(".switch").disabled = !this.isOnline;
    this.part(".forget").hidden = this.isOnline;
    // What was heard last holds until now.
    const ages = this.times.map((time) => time - now());
    const lights = [...this.lights];
    if (this.isOnline && lights.length > 0) {
      ages.push(0);
      lights.push(lights.at(-1));
    }
    this.plot.setData([ages, lights]);
  }

  remove() {
    this.observer.disconnect();
    this.plot.destroy();
    this.card.remove();
  }
}

function drawThreshold(plot) {
  const { ctx, bbox } = plot;
  const y = plot.valToPos(THRESHOLD, "y", true);
  ctx.save();
  ctx.strokeStyle = color("--threshold");
  ctx.setLineDash([4, 4]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

const address = new URLSearchParams(location.search).get("broker");
const scheme = location.protocol === "https:" ? "wss" : "ws";
const client = mqtt.connect(address ?? `${scheme}://${location.host}/mqtt`, {
  reconnectPeriod: 1000,
  resubscribe: false, // done below, after each connect
});

client.on("connect", async () => {
  // Commands too: that is how the page knows what the LEDs do.
  try {
    await client.subscribeAsync(["+/status", "+/telemetry", "+/commands"], { qos: 1 });
  } catch (error) {
    console.warn(error.message); // gone again already
    return;
  }
  link.className = "connected";
  link.textContent = "connected";
});
client.on("close", () => {
  link.className = "";
  link.textContent = "not connected, trying again";
});
client.on("message", (topic, payload) => {
  const [id, kind] = topic.split("/");
  if (payload.length === 0) {
    // Somebody has told the broker to forget it.
    if (kind === "status") remove(id);
    return;
  }
  let message;
  try {
    message = JSON.parse(payload.toString());
  } catch (error) {
    console.warn(`${topic}: ${error.message}: ${payload}`);
    return;
  }
  const take = {
    status: (device) => {
      if (typeof message?.online === "boolean") device.online = message.online;
    },
    telemetry: (device) => {
      if (typeof message?.light === "number") device.insertLight(message.light);
    },
    commands: (device) => {
      if (typeof message?.led_on === "boolean") device.ledOn = message.led_on;
    },
  }[kind];
  if (!devices.has(id)) devices.set(id, new Device(id));
  const device = devices.get(id);
  take(device);
  draw(device);
});

function command(id, ledOn) {
  client.publish(`${id}/commands`, JSON.stringify({ led_on: ledOn }), { qos: 1 });
}

function forget(id) {
  client.publish(`${id}/status`, "", { qos: 1, retain: true });
}

function remove(id) {
  devices.get(id)?.remove();
  devices.delete(id);
  document.getElementById("nobody").hidden = devices.size > 0;
}

/** Draws once a frame, however many messages come in it. */
function draw(device) {
  document.getElementById("nobody").hidden = true;
  if (changed.size === 0) {
    requestAnimationFrame(() => {
      changed.forEach((device) => devices.get(device.id) === device && device.draw());
      changed.clear();
    });
  }
  changed.add(device);
}

// Time passes also when nobody says anything.
setInterval(() => devices.forEach(draw), 1000);
