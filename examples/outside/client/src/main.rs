//! Publishes to a broker and waits for the message to come back: `outside-client mqtt://localhost`.

use mqtt_client::{Client, Publish, QoS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://localhost".into());
    let client = Client::builder(&url).connect().await?;
    let mut echo = client.subscribe("outside/+", QoS::AtLeastOnce).await?;
    client.publish(Publish::new("outside/client", "here").qos(QoS::AtLeastOnce)).await?.await?;
    if let Some(message) = echo.recv().await {
        println!("{}: {}", message.topic(), String::from_utf8_lossy(message.payload()));
    }
    Ok(())
}
