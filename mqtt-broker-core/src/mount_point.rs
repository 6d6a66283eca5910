use std::fmt;
use std::sync::Arc;

use mqtt_codec::{
    Delivery, Publish, TopicError, TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf,
};

use crate::router::Sharing;
use crate::send_buffer::SendBuffer;

/// A text before all topics of some clients, which they do not see: it keeps them among themselves.
///
/// What they publish, will and subscribe to gets it; what they are sent loses it, and what does not
/// begin with it is not for them. It is put before a topic as it is: `home/` is a level of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct MountPoint(Arc<str>);

impl MountPoint {
    /// A mount point, which has to be a topic name as far as it goes.
    ///
    /// # Errors
    /// When it is empty or has wildcards.
    pub fn new(prefix: &str) -> Result<Self, TopicError> {
        TopicName::new(prefix).map(|_| Self(prefix.into()))
    }

    /// A client's topic as the broker knows it. `None` when that is longer than a topic can be.
    pub(crate) fn topic(&self, topic: TopicName<'_>) -> Option<TopicNameBuf> {
        TopicNameBuf::new(&[&self.0, topic.as_str()].concat()).ok()
    }

    /// The same for a filter. A group is the same group wherever its members are.
    pub(crate) fn filter(&self, filter: TopicFilter<'_>) -> Option<TopicFilterBuf> {
        let text = match Sharing::of(filter) {
            Sharing::None => [&self.0, filter.as_str()].concat(),
            Sharing::Group(shared) => {
                ["$share/", shared.group, "/", &self.0, shared.filter.as_str()].concat()
            }
            Sharing::Invalid => return None,
        };
        TopicFilterBuf::new(&text).ok()
    }

    /// A topic as the client knows it, if it is there for it.
    pub(crate) fn inside<'a>(&self, topic: TopicName<'a>) -> Option<TopicName<'a>> {
        TopicName::new(topic.as_str().strip_prefix(&*self.0)?).ok()
    }

    /// Appends a message to what goes to a client, unless it is elsewhere.
    pub(crate) fn write(
        &self,
        publish: &Publish<'_>,
        delivery: Delivery,
        retain: bool,
        out: &mut SendBuffer,
    ) {
        if let Some(topic) = self.inside(publish.topic) {
            let publish = Publish { topic, payload: publish.payload, delivery, retain };
            out.append(|own| publish.encode(own));
        }
    }
}

impl fmt::Debug for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_put_before_topics_and_filters_and_taken_from_topics() {
        let mount = MountPoint::new("home/").unwrap();
        let topic = |text| mount.topic(TopicName::new(text).unwrap()).unwrap();
        assert_eq!(topic("a/b").as_str(), "home/a/b");
        assert_eq!(topic("$SYS/a").as_str(), "home/$SYS/a");
        let filter = |text| mount.filter(TopicFilter::new(text).unwrap());
        assert_eq!(filter("+/#").unwrap().as_str(), "home/+/#");
        assert_eq!(filter("$share/g/a/#").unwrap().as_str(), "$share/g/home/a/#");
        assert_eq!(filter("$share/g"), None);
        let inside = |text| mount.inside(TopicName::new(text).unwrap()).map(TopicName::as_str);
        assert_eq!(inside("home/a"), Some("a"));
        for other in ["home", "home/", "homes/a", "a/home/b"] {
            assert_eq!(inside(other), None, "{other}");
        }
    }

    #[test]
    fn what_cannot_begin_a_topic_is_no_mount_point() {
        for bad in ["", "a/+/", "#", "a\0"] {
            assert!(MountPoint::new(bad).is_err(), "{bad:?}");
        }
        let long = "x".repeat(65_000);
        let mount = MountPoint::new(&long).unwrap();
        assert_eq!(mount.topic(TopicName::new(&long).unwrap()), None);
    }
}
