//! ACL files: which topics a client may read and write.

use std::collections::HashMap;
use std::path::Path;

use crate::config::Position;
use crate::lines;

mod rule;

use rule::{Rule, RuleError};

/// The rules of an ACL file. What no rule grants is denied, so an empty file denies everything.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    /// The rules before the first `user` line: for clients without a user name.
    anonymous: Vec<Rule>,
    /// The rules after a `user` line, by its name.
    users: HashMap<String, Vec<Rule>>,
    /// The `pattern` lines: for all clients.
    patterns: Vec<Rule>,
}

/// The rules as far as they are read.
#[derive(Default)]
struct Reader {
    acl: Acl,
    /// Whose block it is.
    user: Option<String>,
}

impl Reader {
    fn take(&mut self, line: &str) -> Result<(), Reason> {
        let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let rest = rest.trim();
        let acl = &mut self.acl;
        match word {
            "user" if rest.is_empty() => return Err(Reason::NoName),
            "user" => {
                acl.users.entry(rest.to_owned()).or_default();
                self.user = Some(rest.to_owned());
            }
            "topic" => {
                let rule = Rule::topic(rest)?;
                match &self.user {
                    Some(name) => acl.users.entry(name.clone()).or_default().push(rule),
                    None => acl.anonymous.push(rule),
                }
            }
            "pattern" => acl.patterns.push(Rule::pattern(rest)?),
            _ => return Err(Reason::UnknownWord),
        }
        Ok(())
    }
}

impl From<(Position, Reason)> for AclError {
    fn from((position, reason): (Position, Reason)) -> Self {
        Self { position, reason }
    }
}

/// A client as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The user name, if it has one.
    pub user_name: Option<&'a str>,
    /// The client id.
    pub client_id: &'a str,
}

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Receive its messages.
    Read,
    /// Publish to it.
    Write,
}

/// An ACL file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{position}: {reason}")]
pub struct AclError {
    position: Position,
    reason: Reason,
}

/// What is wrong with a line. All of them end the reading: a line that was skipped could be the one
/// that denies.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("a line begins with user, topic or pattern")]
    UnknownWord,
    #[error("the user name is missing")]
    NoName,
    #[error(transparent)]
    Rule(#[from] RuleError),
}

impl Acl {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, and for the first line that is not right.
    pub fn read(file: &Path) -> Result<Self, AclError> {
        let mut acl = Reader::default();
        lines::read(file, |line| acl.take(line)).map_err(AclError::from)?;
        Ok(acl.acl)
    }

    /// As [`Acl::read`] with the text at hand. `file` is for errors only.
    ///
    /// # Errors
    /// As [`Acl::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, AclError> {
        let mut acl = Reader::default();
        lines::parse(file, text, |line| acl.take(line)).map_err(AclError::from)?;
        Ok(acl.acl)
    }

    /// True when `who` may do this with a topic name. A rule that denies wins over all that grant.
    pub fn allows(&self, who: Who<'_>, access: Access, topic: &str) -> bool {
        let mut granted = false;
        for rule in self.rules(who) {
            if rule.matches(who, topic) {
                if rule.denies() {
                    return false;
                }
                granted |= rule.grants(access);
            }
        }
        granted
    }

    /// True when a subscription of `who` to this filter can ever deliver something: some rule grants
    /// to read a topic that it matches, and none denies all of them.
    pub fn allows_subscription(&self, who: Who<'_>, filter: &str) -> bool {
        let mut granted = false;
        for rule in self.rules(who) {
            if rule.denies() && rule.covers(who, filter) {
                return false;
            }
            granted |= rule.grants(Access::Read) && rule.overlaps(who, filter);
        }
        granted
    }

    /// The rules that count for a client.
    ///
    /// A name with `+`, `#` or `/` in it could make a pattern wider than it was meant (CVE-2017-7650
    /// of Mosquitto): for such a client there are no rules with its name put in.
    fn rules<'a>(&'a self, who: Who<'a>) -> impl Iterator<Item = &'a Rule> {
        let own = match who.user_name {
            Some(name) => self.users.get(name).map_or(&[][..], Vec::as_slice),
            None => &self.anonymous,
        };
        own.iter().chain(self.patterns.iter().filter(move |rule| rule.is_for(who)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Access::{Read, Write};
    use mqtt_codec::{TopicFilter, TopicName};
    use proptest::prelude::*;

    fn acl(text: &str) -> Acl {
        Acl::parse(Path::new("acl"), text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn who<'a>(user_name: &'a str, client_id: &'a str) -> Who<'a> {
        Who { user_name: (!user_name.is_empty()).then_some(user_name), client_id }
    }

    #[test]
    fn a_file_that_grants_nothing_denies_all() {
        for text in ["", "\n\n", "# topic #\n", "user alice\n"] {
            let acl = acl(text);
            for name in ["", "alice"] {
                assert!(!acl.allows(who(name, "c"), Read, "a"));
                assert!(!acl.allows(who(name, "c"), Write, "a"));
                assert!(!acl.allows_subscription(who(name, "c"), "#"));
            }
        }
    }

    #[test]
    fn rules_are_of_a_user_of_nobody_or_of_all() {
        let acl = acl("topic read open\nuser alice\ntopic a/#\nuser bob\ntopic write b\n\
                       pattern read all\nuser alice\ntopic read c\n");
        assert!(acl.allows(who("", "x"), Read, "open"));
        assert!(!acl.allows(who("", "x"), Write, "open"));
        assert!(!acl.allows(who("alice", "x"), Read, "open"), "for anonymous clients only");
        for access in [Read, Write] {
            assert!(acl.allows(who("alice", "x"), access, "a/b"));
            assert!(acl.allows(who("alice", "x"), access, "a"));
            assert!(!acl.allows(who("bob", "x"), access, "a/b"));
        }
        assert!(acl.allows(who("alice", "x"), Read, "c"), "a second block adds to the first");
        assert!(acl.allows(who("bob", "x"), Write, "b"));
        assert!(!acl.allows(who("bob", "x"), Read, "b"));
        for name in ["", "alice", "carol"] {
            assert!(acl.allows(who(name, "x"), Read, "all"), "{name}");
        }
    }

    #[test]
    fn deny_wins_wherever_it_stands() {
        let acl = acl("user alice\ntopic deny a/secret\ntopic a/#\ntopic b/#\ntopic deny b/+/x\n\
                       pattern deny c/%u\npattern c/#\n");
        let alice = who("alice", "x");
        assert!(acl.allows(alice, Read, "a/b") && !acl.allows(alice, Read, "a/secret"));
        assert!(acl.allows(alice, Write, "b/1/y") && !acl.allows(alice, Write, "b/1/x"));
        assert!(acl.allows(alice, Read, "c/bob") && !acl.allows(alice, Read, "c/alice"));
    }

    #[test]
    fn patterns_have_the_names_of_the_client() {
        let acl = acl("pattern write u/%u/#\npattern read c/%c\npattern x-%c-%u/+\n");
        let alice = who("alice", "c1");
        assert!(acl.allows(alice, Write, "u/alice/a/b"));
        assert!(!acl.allows(alice, Write, "u/bob/a") && !acl.allows(alice, Write, "u/%u/a"));
        assert!(acl.allows(alice, Read, "c/c1") && !acl.allows(alice, Read, "c/c2"));
        assert!(acl.allows(alice, Write, "x-c1-alice/t"));
        assert!(!acl.allows(alice, Write, "x-c1-alic/t"));
        let nobody = who("", "c1");
        assert!(acl.allows(nobody, Read, "c/c1") && !acl.allows(nobody, Write, "u//a"));
    }

    #[test]
    fn names_with_wildcards_or_levels_match_no_pattern() {
        let acl = acl("pattern u/%u/#\npattern c/%c/#\npattern all\n");
        for evil in ["+", "#", "a/+", "a/b", "a/#", "a#"] {
            assert!(!acl.allows(who(evil, "c"), Write, "u/bob/x"), "{evil}");
            assert!(!acl.allows(who(evil, "c"), Write, &format!("u/{evil}/x")), "{evil}");
            assert!(!acl.allows(who("bob", evil), Write, "c/other/x"), "{evil}");
            assert!(!acl.allows_subscription(who(evil, evil), "u/bob/x"));
            assert!(acl.allows(who(evil, evil), Write, "all"), "a pattern without names");
        }
    }

    proptest! {
        // CVE-2017-7650 of Mosquitto: whatever the names, a pattern matches what the text with the
        // names put in matches as a plain topic, or less.
        #[test]
        fn a_name_never_makes_a_pattern_wider(
            name in "[a-c+#/$%]{0,4}",
            id in "[a-c+#/$%]{0,4}",
            // With what no topic name has: a rule must not lean on that.
            topic in "[a-c+#/$]{1,4}",
        ) {
            let who = Who { user_name: Some(&name), client_id: &id };
            let levels = [("u", &name), ("c", &id)];
            for (at, (letter, value)) in levels.into_iter().enumerate() {
                let acl = acl(&format!("pattern {at}/%{letter}/+\npattern x-%{letter}"));
                for (topic, expected) in [
                    (format!("{at}/{topic}/end"), format!("{at}/{value}/end")),
                    (format!("x-{topic}"), format!("x-{value}")),
                ] {
                    let allowed = acl.allows(who, Write, &topic);
                    let harmless = !value.contains(['+', '#', '/']);
                    prop_assert_eq!(allowed, harmless && topic == expected);
                    // A subscription without wildcards is allowed exactly when its topic is.
                    if !topic.contains(['+', '#']) {
                        prop_assert_eq!(acl.allows_subscription(who, &topic), allowed);
                    }
                }
            }
        }

        // Over all filters of three levels: a topic that both match makes them overlap, and what
        // covers a filter matches all of its topics.
        #[test]
        fn overlaps_and_covers_agree_with_matches(
            rule in filter(),
            other in filter(),
            topics in prop::collection::vec("[ab$]{0,1}(/[ab]{0,1}){0,3}", 64),
        ) {
            let granting = acl(&format!("topic read {rule}"));
            let denying = acl(&format!("topic read #\ntopic read $/#\ntopic deny {rule}"));
            let matches = |topic: &str| {
                let name = TopicName::new(topic).expect("a topic name");
                TopicFilter::new(&other).expect("a filter").matches(name)
            };
            let who = who("", "c");
            for topic in topics.iter().filter(|topic| !topic.is_empty() && matches(topic)) {
                if granting.allows(who, Read, topic) {
                    prop_assert!(granting.allows_subscription(who, &other), "{topic}");
                }
                if !denying.allows_subscription(who, &other) {
                    prop_assert!(!denying.allows(who, Read, topic), "{topic}");
                }
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(user|topic|pattern|[ a+#/%\n]){0,8}.{0,20}") {
            let _ = Acl::parse(Path::new("acl"), &text);
        }
    }

    /// A filter of up to three levels.
    fn filter() -> impl Strategy<Value = String> {
        "([ab$+]|)(/([ab+]|)){0,2}(/#)?".prop_filter("a filter", |f| TopicFilter::new(f).is_ok())
    }

    #[test]
    fn wildcards_do_not_reach_into_topics_with_a_dollar() {
        let acl = acl("topic #\ntopic +/x\ntopic read $SYS/broker/#\n");
        let nobody = who("", "c");
        assert!(!acl.allows(nobody, Read, "$other/x") && !acl.allows(nobody, Write, "$SYS/x"));
        assert!(acl.allows(nobody, Read, "$SYS/broker/uptime"));
        assert!(acl.allows_subscription(nobody, "$SYS/#"));
        assert!(!acl.allows_subscription(nobody, "$other/#"));
    }

    #[test]
    fn a_subscription_is_allowed_when_something_can_come() {
        let acl = acl("topic read a/+/c\ntopic write w/#\ntopic deny d/#\ntopic read d/x\n\
                       topic read e/#\ntopic deny e/secret\n");
        let nobody = who("", "c");
        for filter in ["#", "a/#", "+/b/c", "a/b/+", "+/+/+", "a/b/c", "e/+", "e/#", "e", "+/#"] {
            assert!(acl.allows_subscription(nobody, filter), "{filter}");
        }
        for filter in ["a/b", "w/#", "a/b/d", "w/b/d", "d/x", "d/#", "e/secret", "b/#", "/#"] {
            assert!(!acl.allows_subscription(nobody, filter), "{filter}");
        }
    }

    #[test]
    fn a_line_that_is_not_right_is_named() {
        let error =
            |text: &str| Acl::parse(Path::new("acl"), text).expect_err("an error").to_string();
        assert_eq!(error("\ntopics a\n"), "acl:2: a line begins with user, topic or pattern");
        assert_eq!(error("user  \n"), "acl:1: the user name is missing");
        assert_eq!(error("topic\n"), "acl:1: the topic filter is missing");
        assert_eq!(error("topic read\n"), "acl:1: the topic filter is missing");
        assert!(error("topic foo bar\n").contains("`foo`"));
        assert!(error("topic read a/#/b\n").contains("`a/#/b`"));
        assert!(error("pattern read %u+\n").contains("`%u+`"));
        assert!(Acl::read(Path::new("/nonexistent")).is_err());
    }
}
