//! Our own client, against a broker that may be Mosquitto.

use mqtt_client::{Client, Publish, QoS, Subscription};
use tokio::time::timeout;

use crate::broker_process::{BrokerProcess, is_mosquitto};
use crate::program::DEADLINE;

async fn connect(broker: &BrokerProcess) -> Client {
    let builder = Client::builder(&format!("mqtt://127.0.0.1:{}", broker.port()));
    timeout(DEADLINE, builder.connect()).await.expect("it connects in time").expect("it connects")
}

async fn received(subscription: &mut Subscription) -> (String, String) {
    let message = timeout(DEADLINE, subscription.recv()).await.expect("it comes in time");
    let message = message.expect("the client goes on");
    (message.topic().to_string(), String::from_utf8_lossy(message.payload()).into_owned())
}

#[tokio::test]
async fn every_qos_goes_both_ways() {
    let broker = BrokerProcess::start();
    let client = connect(&broker).await;
    for granted in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut subscription = client.subscribe("ours/+", granted).await.expect("granted");
        for published in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let publish = Publish::new("ours/a", format!("{published:?}")).qos(published);
            let receipt = client.publish(publish).await.expect("accepted");
            receipt.await.expect("delivered");
            let expected = ("ours/a".to_owned(), format!("{published:?}"));
            assert_eq!(received(&mut subscription).await, expected, "granted {granted:?}");
        }
    }
}

#[tokio::test]
async fn a_retained_message_comes_to_a_new_subscription() {
    let broker = BrokerProcess::start();
    let client = connect(&broker).await;
    let publish = Publish::new("kept/a", "state").qos(QoS::AtLeastOnce).retain(true);
    client.publish(publish).await.expect("accepted").await.expect("delivered");
    let mut subscription = client.subscribe("kept/#", QoS::AtLeastOnce).await.expect("granted");
    assert_eq!(received(&mut subscription).await, ("kept/a".to_owned(), "state".to_owned()));
}

#[tokio::test]
async fn ten_thousand_messages_of_qos_2_arrive_once_and_in_order() {
    // Mosquitto drops what a receiver does not take fast enough, where ours holds the publisher back;
    // and what a publisher has in flight beyond max_inflight_messages, with a PUBREC as if it had not.
    let broker = match is_mosquitto() {
        true => BrokerProcess::start_with_config(
            "allow_anonymous true\nmax_queued_messages 20000\nmax_inflight_messages 1000",
        ),
        false => BrokerProcess::start(),
    };
    let client = connect(&broker).await;
    let mut subscription = client.subscribe("many", QoS::ExactlyOnce).await.expect("granted");
    let publisher = connect(&broker).await;
    let publishing = tokio::spawn(async move {
        for number in 0..10_000 {
            let publish = Publish::new("many", number.to_string()).qos(QoS::ExactlyOnce);
            let _receipt = publisher.publish(publish).await.expect("accepted");
        }
        publisher
    });
    for number in 0..10_000 {
        assert_eq!(received(&mut subscription).await.1, number.to_string());
    }
    publishing.await.expect("the publisher does not panic");
}
