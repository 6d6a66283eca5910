//! Who may connect, publish and subscribe, and what is told about it in the log.
//!
//! [`Access`] is the broker's hooks. Its rules come from the configuration with its password and ACL
//! files, and are replaced as a whole by [`Access::reload`]: a file that cannot be read changes
//! nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use mqtt_broker_core::{
    Admission, Authentication, Broker, Client, Closed, ConnectionError, DropReason, Hooks,
    Interests, Login, Permission, Sharing,
};
use mqtt_codec::{ConnectReturnCode, Publish, QoS, TopicFilter, TopicName};
use tracing::{debug, info};

use crate::acl::{self, Who};
use crate::config::{Address, Config};
use crate::log::{SUBSCRIBE, UNSUBSCRIBE};
use crate::memory::{Heap, Memory};
use crate::sys::Extra;

mod hashing;
mod rules;
mod sources;

pub use rules::AccessError;

pub(crate) use rules::{AUTO_ID_PREFIX, warn_if_others_may_read};

use hashing::Hashing;
use rules::{ListenerRules, Proof, Rules};
use sources::Sources;

/// The broker's hooks: the rules of its listeners, and its log. A handle; clones are the same.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    rules: RwLock<Arc<Rules>>,
    /// Bytes on the heap up to which the rules let everybody publish everything; 0 when there is more
    /// to ask. To look at the rules themselves for each message was an eighth of a small one's cost.
    open_up_to: AtomicUsize,
    hashing: Hashing,
    /// The listeners that are open: a connection has the number of one, whatever a file that is read
    /// later says about their order.
    addresses: Vec<Address>,
    /// Who has published what is retained.
    sources: Sources,
    memory: Memory,
    /// CONNECT packets so far.
    connects: AtomicU64,
    /// For closing connections. Set once the broker exists, which needs its hooks first.
    broker: OnceLock<Broker>,
}

impl Access {
    /// Reads the rules of a configuration, with all files that it names. `heap` is what its limit of
    /// memory is about.
    ///
    /// # Errors
    /// For the first file that cannot be used.
    pub fn new(config: &Config, heap: Heap) -> Result<Self, AccessError> {
        let rules = Rules::read(config)?;
        let shared = Shared {
            addresses: config.listeners.iter().map(|listener| listener.address.clone()).collect(),
            open_up_to: AtomicUsize::new(rules.open_up_to()),
            memory: Memory::new(heap, rules.max_memory),
            rules: RwLock::new(Arc::new(rules)),
            hashing: Hashing::new(),
            sources: Sources::default(),
            connects: AtomicU64::new(0),
            broker: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Tells whose hooks these are.
    pub fn attach(&self, broker: &Broker) {
        // A second broker with the same hooks would be a mistake without consequences.
        let _ = self.shared.broker.set(broker.clone());
    }

    /// CONNECT packets so far.
    pub fn connects(&self) -> u64 {
        self.shared.connects.load(Ordering::Relaxed)
    }

    /// The memory, and its limit.
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// What is known here for `$SYS`.
    pub(crate) fn extra(&self) -> Extra {
        Extra { connects: self.connects(), heap: self.memory().in_use() as u64 }
    }

    /// Reads the rules anew. They count for what clients do next; connected clients stay, but for
    /// those that could no longer come.
    ///
    /// # Errors
    /// When a listener that is open is no longer in the configuration, and for the first file that
    /// cannot be used. The rules stay as they were then.
    pub fn reload(&self, config: &Config) -> Result<(), AccessError> {
        let mut config = config.clone();
        config.listeners = self
            .shared
            .addresses
            .iter()
            .map(|address| config.listeners.iter().find(|listener| listener.address == *address))
            .map(|found| found.cloned().ok_or(AccessError::Listeners))
            .collect::<Result<_, _>>()?;
        let rules = Rules::read(&config)?;
        // Closed before the new rules are in force, so that no message slips through in between.
        self.shared.open_up_to.store(0, Ordering::SeqCst);
        let open_up_to = rules.open_up_to();
        self.shared.memory.set_limit(rules.max_memory);
        *self.shared.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.shared.open_up_to.store(open_up_to, Ordering::SeqCst);
        if let Some(broker) = self.shared.broker.get() {
            broker.renew_interests();
        }
        self.close_those_who_may_not_stay();
        Ok(())
    }

    /// A changed password keeps nobody out who is in: only the client knows which it had.
    fn close_those_who_may_not_stay(&self) {
        let Some(broker) = self.shared.broker.get() else { return };
        let rules = self.rules();
        let connected = broker.sessions().into_iter().filter(|session| session.is_connected);
        for client in connected.filter_map(|session| session.client) {
            let listener = rules.listeners.get(client.listener());
            if !listener.is_some_and(|listener| listener.may_stay(&client)) {
                info!("client {} is closed: it is no longer allowed", client.client_id());
                broker.disconnect(client.client_id());
            }
        }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.shared.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a login is answered with before its password is looked at.
enum First {
    /// The password is that of the user, or the client is refused.
    Password,
    /// There is no password to check.
    Accept,
}

impl Access {
    /// What can be told at once.
    fn first_look(rules: &Rules, login: &Login) -> Result<First, ConnectReturnCode> {
        let client = &login.client;
        let Some(listener) = rules.listeners.get(client.listener()) else {
            return Err(ConnectReturnCode::NotAuthorized);
        };
        if login.id_was_given && !listener.allow_empty_client_id {
            return Err(ConnectReturnCode::IdentifierRejected);
        }
        if !rules.client_id_fits(client.client_id()) {
            return Err(ConnectReturnCode::IdentifierRejected);
        }
        if !listener.speaks(login.protocol) {
            return Err(ConnectReturnCode::UnacceptableProtocolVersion);
        }
        let too_large = |will: &mqtt_broker_core::Message| !rules.payload_fits(will.payload());
        if login.will.as_ref().is_some_and(too_large) {
            return Err(ConnectReturnCode::NotAuthorized);
        }
        match listener.proof(client) {
            Proof::Password(_) if login.password.is_some() => Ok(First::Password),
            Proof::Password(_) => Err(ConnectReturnCode::BadUserNameOrPassword),
            Proof::Certificate => Ok(First::Accept),
            Proof::Nothing if listener.allow_anonymous => Ok(First::Accept),
            Proof::Nothing => Err(ConnectReturnCode::NotAuthorized),
        }
    }
}

impl Hooks for Access {
    fn interests(&self) -> Interests {
        // Rules about deliveries cost something with every message.
        Interests { delivery_rules: self.rules().has_acl(), ..Interests::default() }
    }

    fn authenticate(&self, login: &Login) -> Authentication {
        self.shared.connects.fetch_add(1, Ordering::Relaxed);
        if self.memory().is_full() {
            return refuse(&login.client, ConnectReturnCode::ServerUnavailable).into();
        }
        let rules = self.rules();
        match Self::first_look(&rules, login) {
            Ok(First::Accept) => accept(&rules, &login.client, login).into(),
            Ok(First::Password) => {
                let listener = login.client.listener();
                let Some(passwords) = rules.listeners[listener].passwords.clone() else {
                    return Admission::Refuse(ConnectReturnCode::NotAuthorized).into();
                };
                let login = login.clone();
                let hashing = self.shared.hashing.clone();
                Authentication::Later(Box::pin(async move {
                    match hashing.verify(passwords, &login).await {
                        Ok(()) => accept(&rules, &login.client, &login),
                        Err(code) => refuse(&login.client, code),
                    }
                }))
            }
            Err(code) => refuse(&login.client, code).into(),
        }
    }

    fn authorize_publish(&self, client: &Client, publish: &Publish<'_>) -> Permission {
        if self.shared.memory.in_use() < self.shared.open_up_to.load(Ordering::Relaxed) {
            return Permission::Allow;
        }
        let rules = self.rules();
        let Some(listener) = rules.listeners.get(client.listener()) else {
            return Permission::Deny;
        };
        if publish.qos() > listener.max_qos || (publish.retain && !rules.retain) {
            info!(
                "client {} is closed: its QoS or RETAIN is not possible here",
                client.client_id()
            );
            return Permission::Disconnect;
        }
        if self.memory().is_full() {
            // Not acknowledged, so that it comes again.
            info!("client {} is closed: there is no memory for its message", client.client_id());
            return Permission::Disconnect;
        }
        let topic = publish.topic.as_str();
        let allowed = rules.payload_fits(publish.payload)
            && listener.allows(who(client), acl::Access::Write, topic);
        if allowed && publish.retain && rules.has_acl() {
            self.shared.sources.note(client, publish);
        }
        allowed.into()
    }

    fn authorize_subscribe(
        &self,
        client: &Client,
        filter: TopicFilter<'_>,
        qos: QoS,
    ) -> Option<QoS> {
        let rules = self.rules();
        let listener = rules.listeners.get(client.listener())?;
        // What members of a group share is what the rules are about.
        let wanted = match Sharing::of(filter) {
            Sharing::None => filter,
            Sharing::Group(shared) => shared.filter,
            Sharing::Invalid => return None,
        };
        if listener.allows_subscription(who(client), wanted.as_str()) {
            Some(qos)
        } else {
            info!("client {} may not subscribe to {filter}", client.client_id());
            None
        }
    }

    fn authorize_delivery(&self, receiver: &Client, topic: TopicName<'_>, retained: bool) -> bool {
        let rules = self.rules();
        let topic = topic.as_str();
        let allows = |listener: usize, who: Who<'_>, access| {
            rules.listeners.get(listener).is_some_and(|rules| rules.allows(who, access, topic))
        };
        let may_be_there = |listener, source: Who<'_>| allows(listener, source, acl::Access::Write);
        let may_read = |listener| allows(listener, who(receiver), acl::Access::Read);
        let is_readable = match receiver.is_restored() {
            false => may_read(receiver.listener()),
            // It was there before a restart, and nobody knows on which listener: it could have been
            // any of those that let it in.
            true => {
                let could_be = |number: &usize| rules.listeners[*number].may_stay(receiver);
                let mut numbers = (0..rules.listeners.len()).filter(could_be).peekable();
                numbers.peek().is_some() && numbers.all(may_read)
            }
        };
        is_readable
            && (!(retained && rules.check_retain_source)
                || self.shared.sources.ask(topic, may_be_there))
    }

    fn connected(&self, client: &Client, session_present: bool) {
        if self.rules().log_connections {
            let user = client.user_name().unwrap_or("nobody");
            let from = client.address().map_or_else(|| "this machine".into(), |a| a.to_string());
            let session = if session_present { ", session kept" } else { "" };
            info!("client {} connected from {from} as {user}{session}", client.client_id());
        }
    }

    fn disconnected(&self, client: &Client, reason: &Result<Closed, ConnectionError>) {
        if self.rules().log_connections {
            match reason {
                Ok(closed) => info!("client {} is gone: {closed:?}", client.client_id()),
                Err(error) => info!("client {} is gone: {error}", client.client_id()),
            }
        }
    }

    fn subscribed(&self, client: &Client, filter: TopicFilter<'_>, qos: QoS) {
        info!(target: SUBSCRIBE, "{} {} {filter}", client.client_id(), qos as u8);
    }

    fn unsubscribed(&self, client: &Client, filter: TopicFilter<'_>) {
        info!(target: UNSUBSCRIBE, "{} {filter}", client.client_id());
    }

    fn session_ended(&self, client_id: &str) {
        debug!("the session of client {client_id} is over");
    }

    fn dropped(&self, receiver: Option<&str>, topic: TopicName<'_>, reason: DropReason) {
        if reason == DropReason::RetainedFull {
            self.shared.sources.forget(topic.as_str());
        }
        let receiver = receiver.unwrap_or("all");
        debug!("a message to {topic} was dropped for {receiver}: {reason:?}");
    }
}

/// Lets a client in, under the names that its listener gives it.
///
/// A will that it may not publish is refused now: its topic would be denied when nobody can be told.
fn accept(rules: &Rules, client: &Client, login: &Login) -> Admission {
    let listener = &rules.listeners[client.listener()];
    let named = listener.rename(client, login.id_was_given);
    let client = named.as_deref().unwrap_or(client);
    let denied = login.will.as_ref().is_some_and(|will| {
        !listener.allows(who(client), acl::Access::Write, will.topic().as_str())
    });
    match named {
        _ if denied => refuse(client, ConnectReturnCode::NotAuthorized),
        Some(client) => Admission::AcceptAs(client),
        None => Admission::Accept,
    }
}

fn refuse(client: &Client, code: ConnectReturnCode) -> Admission {
    let from = client.address().map_or_else(|| "this machine".into(), |a| a.to_string());
    info!("client {} from {from} is refused: {code:?}", client.client_id());
    Admission::Refuse(code)
}

fn who(client: &Client) -> Who<'_> {
    Who { user_name: client.user_name(), client_id: client.client_id() }
}

impl ListenerRules {
    fn allows(&self, who: Who<'_>, access: acl::Access, topic: &str) -> bool {
        self.acl.as_ref().is_none_or(|acl| acl.allows(who, access, topic))
    }

    fn allows_subscription(&self, who: Who<'_>, filter: &str) -> bool {
        self.acl.as_ref().is_none_or(|acl| acl.allows_subscription(who, filter))
    }
}
