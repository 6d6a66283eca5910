//! MQTT.js in node: the client of most web pages and of Node-RED.

use std::process::Command;

use crate::broker_process::BrokerProcess;
use crate::foreign::{in_path, required};
use crate::program::{run, scripts};

#[test]
fn mqtt_js_exchanges_messages() {
    let broker = BrokerProcess::start();
    exchange(&format!("mqtt://127.0.0.1:{}", broker.port()));
}

#[test]
fn mqtt_js_exchanges_messages_over_websocket() {
    let broker = BrokerProcess::start_with_config("protocol websockets\nallow_anonymous true");
    exchange(&format!("ws://127.0.0.1:{}/mqtt", broker.port()));
}

fn exchange(url: &str) {
    let folder = scripts().join("mqttjs");
    let package = folder.join("node_modules/mqtt").is_dir().then_some(());
    let Some((node, ())) = required("MQTT.js", in_path("node").zip(package)) else { return };
    print!("{}", run(Command::new(node).current_dir(&folder).args(["exchange.mjs", url])));
}
