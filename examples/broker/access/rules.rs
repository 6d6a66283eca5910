use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use mqtt_broker_core::Client;
use mqtt_codec::{Protocol, QoS};
use tracing::warn;

use crate::acl::{Acl, AclError};
use crate::config::{Config, Listener, UserName, Versions};
use crate::password::{PasswordFileError, Passwords};

/// What ids that the core gives begin with, until their listener's prefix takes its place.
pub(crate) const AUTO_ID_PREFIX: &str = "auto-";

/// All rules at a time: replaced as a whole, never changed.
pub(super) struct Rules {
    pub(super) listeners: Vec<ListenerRules>,
    pub(super) log_connections: bool,
    pub(super) retain: bool,
    pub(super) check_retain_source: bool,
    /// Bytes on the heap.
    pub(super) max_memory: usize,
    max_payload: Option<usize>,
    client_id_prefix: Option<String>,
}

/// The rules of one listener.
pub(super) struct ListenerRules {
    pub(super) allow_anonymous: bool,
    pub(super) passwords: Option<Arc<Passwords>>,
    pub(super) acl: Option<Arc<Acl>>,
    pub(super) max_qos: QoS,
    pub(super) allow_empty_client_id: bool,
    /// The beginning of ids that are given, where it is another one than the core's.
    auto_id_prefix: String,
    versions: Versions,
    user_name_as_client_id: bool,
    /// The name in a client's certificate takes the place of the one in CONNECT.
    identity_as_user_name: bool,
}

/// How a client can show who it is.
pub(super) enum Proof<'a> {
    /// By the password of a user.
    Password(&'a Passwords),
    /// It has shown a certificate, whatever its CONNECT says.
    Certificate,
    /// Not at all. A user name that nobody can check is worth as much as none.
    Nothing,
}

/// A file of the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The password file.
    #[error(transparent)]
    Passwords(#[from] PasswordFileError),
    /// A listener that is open is no longer in the file.
    #[error("the listeners are others now, which needs a restart")]
    Listeners,
    /// The ACL file.
    #[error(transparent)]
    Acl(#[from] AclError),
}

impl Rules {
    /// Reads each file once, even where several listeners name it.
    pub(super) fn read(config: &Config) -> Result<Self, AccessError> {
        let mut passwords: HashMap<&Path, Arc<Passwords>> = HashMap::new();
        let mut acls: HashMap<&Path, Arc<Acl>> = HashMap::new();
        for listener in &config.listeners {
            if let Some(file) = listener.policy.password_file.as_deref()
                && !passwords.contains_key(file)
            {
                warn_if_others_may_read(file);
                let read = Passwords::read(file)?;
                if read.has_weak_hashes() {
                    warn!("{}: $6$ hashes are weak, write them anew", file.display());
                }
                passwords.insert(file, Arc::new(read));
            }
            if let Some(file) = listener.policy.acl_file.as_deref() {
                acls.insert(file, Arc::new(Acl::read(file)?));
            }
        }
        let rules = |listener: &Listener| {
            let policy = &listener.policy;
            ListenerRules {
                allow_anonymous: policy.allow_anonymous,
                passwords: policy.password_file.as_deref().and_then(|f| passwords.get(f).cloned()),
                acl: policy.acl_file.as_deref().and_then(|file| acls.get(file).cloned()),
                max_qos: match listener.max_qos {
                    0 => QoS::AtMostOnce,
                    1 => QoS::AtLeastOnce,
                    _ => QoS::ExactlyOnce,
                },
                allow_empty_client_id: policy.allow_empty_client_id,
                auto_id_prefix: policy.auto_id_prefix.clone(),
                versions: listener.versions,
                user_name_as_client_id: listener.user_name_as_client_id,
                identity_as_user_name: listener
                    .tls
                    .as_ref()
                    .is_some_and(|tls| tls.user_name != UserName::Connect),
            }
        };
        Ok(Self {
            listeners: config.listeners.iter().map(rules).collect(),
            log_connections: config.logging.connections,
            retain: config.messages.retain,
            check_retain_source: config.messages.check_retain_source,
            max_memory: config.messages.max_memory.bytes(),
            max_payload: config.messages.max_payload,
            client_id_prefix: config.client_id_prefix.clone(),
        })
    }

    /// Whether there are rules about what a client may receive.
    pub(super) fn has_acl(&self) -> bool {
        self.listeners.iter().any(|listener| listener.acl.is_some())
    }

    /// Bytes on the heap up to which everybody may publish everything; 0 if some may not. A little
    /// less than the limit, where the memory has to be asked whether it was full.
    pub(super) fn open_up_to(&self) -> usize {
        let is_open =
            |rules: &ListenerRules| rules.acl.is_none() && rules.max_qos == QoS::ExactlyOnce;
        match self.retain && self.max_payload.is_none() && self.listeners.iter().all(is_open) {
            true => self.max_memory - self.max_memory / 8,
            false => 0,
        }
    }

    pub(super) fn payload_fits(&self, payload: &[u8]) -> bool {
        self.max_payload.is_none_or(|max| payload.len() <= max)
    }

    pub(super) fn client_id_fits(&self, client_id: &str) -> bool {
        self.client_id_prefix.as_deref().is_none_or(|prefix| client_id.starts_with(prefix))
    }
}

/// Hashes are there to be kept, and a key even more.
pub(crate) fn warn_if_others_may_read(file: &Path) {
    let is_open = |metadata: std::fs::Metadata| metadata.mode() & 0o004 != 0;
    if std::fs::metadata(file).is_ok_and(is_open) {
        warn!("{} can be read by every user of this machine", file.display());
    }
}

impl ListenerRules {
    pub(super) fn speaks(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::V310 => self.versions.v3_1,
            Protocol::V311 => self.versions.v3_1_1,
        }
    }

    pub(super) fn proof(&self, client: &Client) -> Proof<'_> {
        match (client.user_name(), &self.passwords) {
            _ if client.identity().is_some() => Proof::Certificate,
            (Some(_), Some(passwords)) => Proof::Password(passwords),
            _ => Proof::Nothing,
        }
    }

    /// Whether a client that was let in under other rules could still come.
    pub(super) fn may_stay(&self, client: &Client) -> bool {
        match self.proof(client) {
            Proof::Password(passwords) => {
                client.user_name().is_some_and(|name| passwords.has(name))
            }
            Proof::Certificate => true,
            Proof::Nothing => self.allow_anonymous,
        }
    }

    /// The client under the names that count here, if they are not those of its CONNECT.
    pub(super) fn rename(&self, client: &Client, id_was_given: bool) -> Option<Box<Client>> {
        let (mut client_id, mut user_name) = (client.client_id(), client.user_name());
        let own_id;
        if id_was_given && let Some(rest) = client_id.strip_prefix(AUTO_ID_PREFIX) {
            own_id = format!("{}{rest}", self.auto_id_prefix);
            client_id = &own_id;
        }
        if self.identity_as_user_name && client.identity().is_some() {
            user_name = client.identity();
        }
        if let (true, Some(user_name)) = (self.user_name_as_client_id, user_name) {
            client_id = user_name;
        }
        let named = client.named(client_id, user_name);
        (named != *client).then(|| Box::new(named))
    }
}
