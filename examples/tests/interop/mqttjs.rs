//! MQTT.js in node: the client of most web pages and of Node-RED.

use std::process::Command;

use crate::broker_process::BrokerProcess;
use crate::foreign::{in_path, required};
use crate::program::{run, scripts};

#[test]
fn mqtt_js_exchanges_messages() {
    let folder = scripts().join("mqttjs");
    let package = folder.join("node_modules/mqtt").is_dir().then_some(());
    let Some((node, ())) = required("MQTT.js", in_path("node").zip(package)) else { return };
    let broker = BrokerProcess::start();
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    print!("{}", run(Command::new(node).current_dir(&folder).args(["exchange.mjs", &url])));
}
