//! A broker with rules of its own: `cargo run --example house_rules -- 127.0.0.1:1883`.
//!
//! Residents log in, and each publishes below `home/NAME/` only. Guests come without a name, and may
//! listen to everything but what is private. What happens is written to the terminal.

use mqtt_broker_core::{
    Admission, Authentication, Broker, Client, Closed, Config, ConnectionError, DropReason, Hooks,
    Login, Permission, serve_connection,
};
use mqtt_codec::{ConnectReturnCode, Publish, QoS, TopicFilter, TopicName};

/// A real house would ask a database, and compare hashes of passwords.
const RESIDENTS: [(&str, &[u8]); 2] = [("ann", b"tulip"), ("bob", b"orchid")];

struct HouseRules;

impl Hooks for HouseRules {
    fn authenticate(&self, login: &Login) -> Authentication {
        let is_known = match (login.client.user_name(), &login.password) {
            (None, None) => true,
            (Some(name), Some(password)) => RESIDENTS.contains(&(name, password)),
            _ => false,
        };
        // An answer that takes time would be `Authentication::Later(future)`.
        match is_known {
            true => Admission::Accept.into(),
            false => Admission::Refuse(ConnectReturnCode::BadUserNameOrPassword).into(),
        }
    }

    fn authorize_publish(&self, client: &Client, publish: &Publish<'_>) -> Permission {
        let room = client.user_name().map(|name| format!("home/{name}/"));
        room.is_some_and(|room| publish.topic.as_str().starts_with(&room)).into()
    }

    fn authorize_subscribe(
        &self,
        client: &Client,
        filter: TopicFilter<'_>,
        qos: QoS,
    ) -> Option<QoS> {
        let is_private = filter.levels().any(|level| matches!(level, b"private" | b"+" | b"#"));
        (client.user_name().is_some() || !is_private).then_some(qos)
    }

    fn connected(&self, client: &Client, session_present: bool) {
        let name = client.user_name().unwrap_or("a guest");
        println!("{name} is here, {}", if session_present { "again" } else { "new" });
    }

    fn disconnected(&self, client: &Client, reason: &Result<Closed, ConnectionError>) {
        println!("{} is gone: {reason:?}", client.user_name().unwrap_or("a guest"));
    }

    fn dropped(&self, _receiver: Option<&str>, topic: TopicName<'_>, reason: DropReason) {
        println!("a message to {topic} was dropped: {reason:?}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1883".into());
    let broker = Broker::new(Config::default(), HouseRules);
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("serving MQTT on {}", listener.local_addr()?);
    loop {
        let (socket, peer) = listener.accept().await?;
        tokio::spawn(serve_connection(&broker, socket, peer));
    }
}
