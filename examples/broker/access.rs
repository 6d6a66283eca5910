//! Who may connect, publish and subscribe, and what is told about it in the log.

use mqtt_broker_core::{
    Admission, Authentication, Client, Closed, ConnectionError, DropReason, Hooks, Login,
};
use mqtt_codec::{ConnectReturnCode, QoS, TopicFilter, TopicName};
use tracing::{debug, info};

use crate::config::{Config, Policy};

/// The broker's hooks: the policies of its listeners, and its log.
#[derive(Debug)]
pub struct Access {
    policies: Vec<Policy>,
    log_connections: bool,
}

impl Access {
    /// The rules of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            policies: config.listeners.iter().map(|listener| listener.policy.clone()).collect(),
            log_connections: config.logging.connections,
        }
    }

    fn admit(&self, login: &Login) -> Result<(), ConnectReturnCode> {
        let Some(policy) = self.policies.get(login.client.peer.listener) else {
            return Err(ConnectReturnCode::NotAuthorized);
        };
        if login.client.user_name.is_none() && !policy.allow_anonymous {
            return Err(ConnectReturnCode::NotAuthorized);
        }
        Ok(())
    }
}

impl Hooks for Access {
    fn authenticate(&self, login: &Login) -> Authentication {
        match self.admit(login) {
            Ok(()) => Admission::Accept.into(),
            Err(code) => {
                info!("client {} is refused: {code:?}", login.client.client_id);
                Admission::Refuse(code).into()
            }
        }
    }

    fn authorize_subscribe(
        &self,
        client: &Client,
        filter: TopicFilter<'_>,
        qos: QoS,
    ) -> Option<QoS> {
        debug!("client {} subscribes to {filter} at {qos:?}", client.client_id);
        Some(qos)
    }

    fn connected(&self, client: &Client, _session_present: bool) {
        if self.log_connections {
            let user = client.user_name.as_deref().unwrap_or("nobody");
            let from = client.peer.address.map_or_else(|| "this machine".into(), |a| a.to_string());
            info!("client {} connected from {from} as {user}", client.client_id);
        }
    }

    fn disconnected(&self, client: &Client, reason: &Result<Closed, ConnectionError>) {
        if self.log_connections {
            match reason {
                Ok(closed) => info!("client {} is gone: {closed:?}", client.client_id),
                Err(error) => info!("client {} is gone: {error}", client.client_id),
            }
        }
    }

    fn dropped(&self, receiver: Option<&str>, topic: TopicName<'_>, reason: DropReason) {
        let receiver = receiver.unwrap_or("all");
        debug!("a message to {topic} was dropped for {receiver}: {reason:?}");
    }
}
