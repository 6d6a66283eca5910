use std::path::PathBuf;

use super::error::Reason;
use super::lines::Line;

/// Who may connect to a listener and do what: complete, with nothing left to a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Clients without a user name are let in (`allow_anonymous`, `listener_allow_anonymous`).
    pub allow_anonymous: bool,
    /// The names and passwords that are let in. Without one no password is checked.
    pub password_file: Option<PathBuf>,
    /// What clients may read and write. Without one they may do everything.
    pub acl_file: Option<PathBuf>,
    /// A client that names no client id gets one (`allow_zero_length_clientid`, true).
    pub allow_empty_client_id: bool,
    /// The beginning of client ids that the broker makes (`auto_id_prefix`, `auto-`).
    pub auto_id_prefix: String,
}

/// The same while lines are read: for the whole file, or for one listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Security {
    allow_anonymous: Option<bool>,
    password_file: Option<PathBuf>,
    acl_file: Option<PathBuf>,
    allow_empty_client_id: Option<bool>,
    auto_id_prefix: Option<String>,
}

impl Security {
    pub(super) fn apply(&mut self, line: &Line) -> Result<bool, Reason> {
        match line.option.as_str() {
            "allow_anonymous" => self.allow_anonymous = Some(line.bool()?),
            "password_file" => line.set(&mut self.password_file, line.path()?)?,
            "acl_file" => line.set(&mut self.acl_file, line.path()?)?,
            "allow_zero_length_clientid" => self.allow_empty_client_id = Some(line.bool()?),
            "auto_id_prefix" => line.set(&mut self.auto_id_prefix, line.text()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The policy of a listener. `anonymous` is what the listener alone says, `local_only` whether
    /// the broker is only for this machine.
    pub(super) fn policy(&self, anonymous: Option<bool>, local_only: bool) -> Policy {
        Policy {
            allow_anonymous: anonymous.or(self.allow_anonymous).unwrap_or(local_only),
            password_file: self.password_file.clone(),
            acl_file: self.acl_file.clone(),
            allow_empty_client_id: self.allow_empty_client_id.unwrap_or(true),
            auto_id_prefix: self.auto_id_prefix.clone().unwrap_or_else(|| "auto-".to_owned()),
        }
    }
}
