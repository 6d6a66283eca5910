use mqtt_codec::TopicFilter;

use super::{Access, Who};

/// One `topic` or `pattern` line.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    read: bool,
    write: bool,
    deny: bool,
    levels: Vec<Level>,
    /// The rule has `%u`, so that it is for clients with a user name.
    user_name: bool,
    /// The rule has `%c`.
    client_id: bool,
}

/// A level of a rule's filter.
#[derive(Clone, Debug)]
enum Level {
    /// `+`
    One,
    /// `#`
    All,
    /// Anything else: text, with the names of a client in between.
    Text(Vec<Piece>),
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    UserName,
    ClientId,
}

/// What is wrong with a rule.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuleError {
    #[error("the topic filter is missing")]
    NoFilter,
    #[error("`{0}` is not one of read, write, readwrite and deny")]
    Access(String),
    #[error("`{0}` is not a topic filter")]
    Filter(String),
}

impl Rule {
    /// The rule after the word `topic`. `%u` and `%c` have no meaning there.
    pub(super) fn topic(text: &str) -> Result<Self, RuleError> {
        let (access, filter) = split(text)?;
        let levels = filter.split('/').map(|level| Level::new(level, false)).collect();
        Self::new(access, levels)
    }

    /// The rule after the word `pattern`.
    pub(super) fn pattern(text: &str) -> Result<Self, RuleError> {
        let (access, filter) = split(text)?;
        let levels = filter.split('/').map(|level| Level::new(level, true)).collect();
        Self::new(access, levels)
    }

    fn new(access: &str, levels: Vec<Level>) -> Result<Self, RuleError> {
        let (read, write, deny) = match access {
            "readwrite" => (true, true, false),
            "read" => (true, false, false),
            "write" => (false, true, false),
            "deny" => (false, false, true),
            other => return Err(RuleError::Access(other.to_owned())),
        };
        let pieces = || {
            levels.iter().flat_map(|level| match level {
                Level::Text(pieces) => pieces.as_slice(),
                Level::One | Level::All => &[],
            })
        };
        let user_name = pieces().any(|piece| matches!(piece, Piece::UserName));
        let client_id = pieces().any(|piece| matches!(piece, Piece::ClientId));
        Ok(Self { read, write, deny, levels, user_name, client_id })
    }

    /// False when the rule has a name in it that `who` does not have, or that must not be put into a
    /// filter.
    pub(super) fn is_for(&self, who: Who<'_>) -> bool {
        let harmless = |name: &str| !name.contains(['+', '#', '/']);
        (!self.user_name || who.user_name.is_some_and(harmless))
            && (!self.client_id || harmless(who.client_id))
    }

    pub(super) fn denies(&self) -> bool {
        self.deny
    }

    pub(super) fn grants(&self, access: Access) -> bool {
        match access {
            Access::Read => self.read,
            Access::Write => self.write,
        }
    }

    /// True when a topic name is one of the rule's.
    pub(super) fn matches(&self, who: Who<'_>, topic: &str) -> bool {
        if self.hides(topic) {
            return false;
        }
        let mut names = topic.split('/');
        for level in &self.levels {
            match (level, names.next()) {
                (Level::All, _) => return true,
                (_, None) => return false,
                (Level::One, Some(_)) => {}
                (Level::Text(pieces), Some(name)) if is_text(pieces, who, name) => {}
                (Level::Text(_), Some(_)) => return false,
            }
        }
        names.next().is_none()
    }

    /// True when a topic name exists that the rule and a filter match both.
    pub(super) fn overlaps(&self, who: Who<'_>, filter: &str) -> bool {
        if self.hides(filter) || self.is_hidden_from(filter) {
            return false;
        }
        let mut others = filter.split('/');
        for level in &self.levels {
            match (level, others.next()) {
                (Level::All, _) | (_, Some("#")) => return true,
                (_, None) => return false,
                (Level::One, Some(_)) | (Level::Text(_), Some("+")) => {}
                (Level::Text(pieces), Some(name)) if is_text(pieces, who, name) => {}
                (Level::Text(_), Some(_)) => return false,
            }
        }
        // `a/#` matches `a` as well.
        matches!((others.next(), others.next()), (None, _) | (Some("#"), None))
    }

    /// True when the rule matches every topic name that a filter matches.
    pub(super) fn covers(&self, who: Who<'_>, filter: &str) -> bool {
        if self.hides(filter) {
            return false;
        }
        let mut others = filter.split('/');
        for level in &self.levels {
            match (level, others.next()) {
                (Level::All, _) => return true,
                (_, None | Some("#")) | (Level::Text(_), Some("+")) => return false,
                (Level::One, Some(_)) => {}
                (Level::Text(pieces), Some(name)) if is_text(pieces, who, name) => {}
                (Level::Text(_), Some(_)) => return false,
            }
        }
        others.next().is_none()
    }

    /// A wildcard at the beginning matches no topic that begins with `$` [MQTT-4.7.2-1].
    fn hides(&self, topic: &str) -> bool {
        topic.starts_with('$') && matches!(self.levels.first(), Some(Level::One | Level::All))
    }

    /// The same the other way round.
    fn is_hidden_from(&self, filter: &str) -> bool {
        let dollar = match self.levels.first() {
            Some(Level::Text(pieces)) => {
                matches!(pieces.first(), Some(Piece::Literal(text)) if text.starts_with('$'))
            }
            _ => false,
        };
        dollar && filter.starts_with(['+', '#'])
    }
}

impl Level {
    fn new(text: &str, with_names: bool) -> Self {
        match text {
            "+" => Self::One,
            "#" => Self::All,
            text if with_names => Self::Text(pieces(text)),
            text => Self::Text(vec![Piece::Literal(text.to_owned())]),
        }
    }
}

/// The access word, `readwrite` when there is none, and a filter that is one.
///
/// A filter with a space in it needs the word before it, as in Mosquitto.
fn split(text: &str) -> Result<(&str, &str), RuleError> {
    let (access, filter) = match text.split_once([' ', '\t']) {
        Some((access, filter)) => (access, filter.trim_start()),
        None if ["", "read", "write", "readwrite", "deny"].contains(&text) => {
            return Err(RuleError::NoFilter);
        }
        None => ("readwrite", text),
    };
    match TopicFilter::new(filter) {
        Ok(_) => Ok((access, filter)),
        Err(_) => Err(RuleError::Filter(filter.to_owned())),
    }
}

fn pieces(mut text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some((before, name, after)) = next_name(text) {
        if !before.is_empty() {
            pieces.push(Piece::Literal(before.to_owned()));
        }
        pieces.push(name);
        text = after;
    }
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Literal(text.to_owned()));
    }
    pieces
}

fn next_name(text: &str) -> Option<(&str, Piece, &str)> {
    let user = text.split_once("%u").map(|(before, after)| (before, Piece::UserName, after));
    let client = text.split_once("%c").map(|(before, after)| (before, Piece::ClientId, after));
    match (user, client) {
        (Some(user), Some(client)) => {
            Some(if user.0.len() < client.0.len() { user } else { client })
        }
        (user, client) => user.or(client),
    }
}

/// True when the pieces, with the client's names put in, are exactly `name`.
fn is_text(pieces: &[Piece], who: Who<'_>, name: &str) -> bool {
    let mut rest = name;
    for piece in pieces {
        let text = match piece {
            Piece::Literal(text) => text,
            Piece::UserName => who.user_name.unwrap_or_default(),
            Piece::ClientId => who.client_id,
        };
        match rest.strip_prefix(text) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}
