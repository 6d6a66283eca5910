//! The broker example against programs that we did not write.
//!
//! Every test starts a broker process of its own and talks to it with foreign clients: Mosquitto's
//! command lines, paho-mqtt, rumqttc, MQTT.js, and plain bytes over TCP.
//!
//! - A foreign program that is not installed makes its tests pass with a line that says "skipped".
//!   `MQTT_INTEROP=required` makes that a failure. `tests/install-clients` installs all of them.
//! - `MQTT_TEST_BROKER=mosquitto` runs the same tests against the real Mosquitto, which shows that
//!   the tests are right.

mod acl_files;
mod broker_process;
mod browser;
mod certificates;
mod config_files;
mod course;
mod delivery;
mod foreign;
mod full_disk;
mod malformed;
mod mosquitto;
mod mosquitto_clients;
mod mqttjs;
mod options;
mod our_client;
mod paho;
mod password_files;
mod persistence;
mod process_life;
mod program;
mod rumqttc;
mod sys;
mod tls;
mod websocket;
mod wire;
