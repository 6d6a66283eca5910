use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::{MountPoint, PeerInfo};

/// A connected client, as hooks see it. Its session shows it as well, while the client is away.
#[derive(Clone, PartialEq, Eq)]
pub struct Client {
    /// The client id, and behind it the user name.
    names: Box<str>,
    id_length: u32,
    has_user_name: bool,
    is_restored: bool,
    listener: usize,
    address: Option<SocketAddrV4>,
    rare: Option<Box<Rare>>,
}

/// What most clients do not have: there is no room for it in each.
#[derive(Clone, Default, PartialEq, Eq)]
struct Rare {
    address: Option<SocketAddrV6>,
    identity: Option<Box<str>>,
    mount_point: Option<MountPoint>,
}

impl Client {
    pub(crate) fn new(client_id: &str, user_name: Option<&str>, peer: PeerInfo) -> Self {
        let PeerInfo { address, listener, identity, mount_point, opened: _ } = peer;
        let (v4, v6) = match address {
            Some(SocketAddr::V4(address)) => (Some(address), None),
            Some(SocketAddr::V6(address)) => (None, Some(address)),
            None => (None, None),
        };
        let rare = Rare { address: v6, identity: identity.map(Into::into), mount_point };
        let client = Self {
            names: Box::default(),
            id_length: 0,
            has_user_name: false,
            is_restored: false,
            listener,
            address: v4,
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        };
        client.named(client_id, user_name)
    }

    /// One that was there in an earlier life of the broker.
    pub(crate) fn restored(client_id: &str, user_name: Option<&str>) -> Self {
        let client = Self::new(client_id, user_name, PeerInfo::default());
        Self { is_restored: true, ..client }
    }

    /// Whose the sessions of the broker's own program are.
    pub(crate) fn nobody() -> Self {
        Self::new("", None, PeerInfo::default())
    }

    /// Its client id; one that the broker gave when it sent none.
    pub fn client_id(&self) -> &str {
        self.names.get(..self.id_length as usize).unwrap_or_default()
    }

    /// Its user name, if it sent one.
    pub fn user_name(&self) -> Option<&str> {
        self.names.get(self.id_length as usize..).filter(|_| self.has_user_name)
    }

    /// The peer's address, where the transport has one.
    pub fn address(&self) -> Option<SocketAddr> {
        let v6 = || self.rare.as_ref()?.address.map(SocketAddr::V6);
        self.address.map(SocketAddr::V4).or_else(v6)
    }

    /// Number of the listener, as in [`PeerInfo::listener`].
    pub fn listener(&self) -> usize {
        self.listener
    }

    /// Who the transport has shown it to be, as in [`PeerInfo::identity`].
    pub fn identity(&self) -> Option<&str> {
        self.rare.as_ref()?.identity.as_deref()
    }

    /// Where its topics are, as in [`PeerInfo::mount_point`].
    pub fn mount_point(&self) -> Option<&MountPoint> {
        self.rare.as_ref()?.mount_point.as_ref()
    }

    /// Whether only its names are known, because it has not connected since the broker was
    /// [restored](crate::Broker::restore).
    pub fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// The same client under other names, for [`Admission::AcceptAs`](crate::Admission::AcceptAs).
    #[must_use]
    pub fn named(&self, client_id: &str, user_name: Option<&str>) -> Self {
        Self {
            names: [client_id, user_name.unwrap_or_default()].concat().into(),
            id_length: client_id.len() as u32,
            has_user_name: user_name.is_some(),
            rare: self.rare.clone(),
            ..*self
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("client_id", &self.client_id())
            .field("user_name", &self.user_name())
            .field("address", &self.address())
            .field("listener", &self.listener)
            .field("identity", &self.identity())
            .field("mount_point", &self.mount_point())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_client_is_found_again() {
        let mut peer = PeerInfo::from("192.0.2.1:4000".parse::<SocketAddr>().unwrap());
        peer.listener = 3;
        let client = Client::new("id", Some("ann"), peer);
        assert_eq!((client.client_id(), client.user_name()), ("id", Some("ann")));
        assert_eq!(client.address(), "192.0.2.1:4000".parse().ok());
        assert_eq!((client.listener(), client.identity(), client.mount_point()), (3, None, None));

        let address: SocketAddr = "[2001:db8::1%7]:4000".parse().unwrap();
        let mut peer = PeerInfo::from(address);
        peer.identity = Some("a certificate".into());
        peer.mount_point = MountPoint::new("home/").ok();
        let client = Client::new("", None, peer.clone());
        assert_eq!((client.client_id(), client.user_name()), ("", None));
        assert_eq!((client.address(), client.identity()), (Some(address), Some("a certificate")));
        assert_eq!(client.mount_point(), peer.mount_point.as_ref());

        let named = client.named("other", Some(""));
        assert_eq!((named.client_id(), named.user_name()), ("other", Some("")));
        assert_eq!((named.address(), named.identity()), (Some(address), Some("a certificate")));
    }

    #[test]
    fn a_client_is_small() {
        // With the counts of its Arc, what fits into a block of 64 bytes.
        assert!(size_of::<Client>() <= 48, "{} bytes", size_of::<Client>());
    }
}
