//! The example `house_rules`, as a process, with our client.

use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use mqtt_client::{Client, ConnectionError, Publish, QoS, SubscribeError};

struct House {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl House {
    fn open() -> Self {
        let mut process = Command::new(program())
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("`cargo test -p mqtt-examples` builds the example; `--test house_rules` alone does not");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.strip_prefix("serving MQTT on ").unwrap().to_owned();
        Self { process, lines, address }
    }

    fn says(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    async fn enter(&self, login: Option<(&str, &str)>) -> Result<Client, ConnectionError> {
        let url = match login {
            Some((name, password)) => format!("mqtt://{name}:{password}@{}", self.address),
            None => format!("mqtt://{}", self.address),
        };
        Client::builder(&url).connect().await
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Beside this test's own folder.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/house_rules")
}

#[tokio::test]
async fn residents_publish_in_their_rooms_and_guests_listen_to_what_is_not_private() {
    let mut house = House::open();
    let refused = house.enter(Some(("ann", "rose"))).await;
    assert!(matches!(refused, Err(ConnectionError::Refused(_))), "a wrong password: {refused:?}");

    let ann = house.enter(Some(("ann", "tulip"))).await.unwrap();
    assert_eq!(house.says(), "ann is here, new");
    let guest = house.enter(None).await.unwrap();
    assert_eq!(house.says(), "a guest is here, new");

    let all = guest.subscribe("home/#", QoS::AtLeastOnce).await;
    assert!(matches!(all, Err(SubscribeError::Refused)));
    let mut light = guest.subscribe("home/ann/light", QoS::AtLeastOnce).await.unwrap();

    for topic in ["home/bob/light", "home/ann/light"] {
        ann.publish(Publish::new(topic, "on").qos(QoS::AtLeastOnce)).await.unwrap().await.unwrap();
    }
    assert_eq!(house.says(), "a message to home/bob/light was dropped: NotAuthorized");
    let message = light.recv().await.unwrap();
    assert_eq!(message.payload(), b"on");

    ann.shutdown(Duration::from_secs(5)).await;
    assert_eq!(house.says(), "ann is gone: Ok(Disconnect)");
}
