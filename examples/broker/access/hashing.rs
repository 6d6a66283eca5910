use std::sync::Arc;

use mqtt_broker_core::Login;
use mqtt_codec::ConnectReturnCode;
use tokio::sync::Semaphore;

use crate::password::Passwords;

/// Passwords that are hashed at a time. argon2id takes 46 MiB and 40 ms for each with Mosquitto's
/// parameters, and the thread that serves clients must go on meanwhile.
const AT_A_TIME: usize = 2;

/// Logins that may wait for their turn: beyond it, a flood of logins gets "server unavailable" and
/// not our memory. 64 are through in about a second.
const WAITING: usize = 64;

/// Verifies passwords away from the thread that serves clients, a few at a time. A handle.
#[derive(Clone)]
pub(super) struct Hashing {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Hashing {
    pub(super) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            places: Arc::new(Semaphore::new(AT_A_TIME + WAITING)),
        }
    }

    /// Checks the password of a login.
    pub(super) async fn verify(
        &self,
        passwords: Arc<Passwords>,
        login: &Login,
    ) -> Result<(), ConnectReturnCode> {
        let unavailable = ConnectReturnCode::ServerUnavailable;
        let _place = self.places.try_acquire().map_err(|_| unavailable)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| unavailable)?;
        let name = login.client.user_name().unwrap_or_default().to_owned();
        let password = login.password.clone().unwrap_or_default();
        let verified = tokio::task::spawn_blocking(move || {
            // Kept to the end even when the client is gone: the work is not.
            let _turn = turn;
            passwords.verify(&name, &password)
        });
        match verified.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(ConnectReturnCode::BadUserNameOrPassword),
            Err(_) => Err(unavailable),
        }
    }
}
