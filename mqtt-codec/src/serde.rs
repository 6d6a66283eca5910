//! Numbers as numbers and topics as strings, checked as everywhere else.

use alloc::string::ToString;

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    ConnectReturnCode, PacketId, QoS, SubscribeReturnCode, Text, TopicFilter, TopicFilterBuf,
    TopicName, TopicNameBuf,
};

macro_rules! number {
    ($($type:ty, $number:ty, $expected:literal;)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$number>::from(*self).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = <$number>::deserialize(deserializer)?;
                Self::try_from(number).map_err(|_| {
                    Error::invalid_value(Unexpected::Unsigned(number.into()), &$expected)
                })
            }
        }
    )*};
}

number!(
    ConnectReturnCode, u8, "a CONNACK return code";
    PacketId, u16, "a packet id above 0";
    QoS, u8, "0, 1 or 2";
    SubscribeReturnCode, u8, "a SUBACK return code";
);

/// Borrows from the input, so only from formats that lend their strings.
macro_rules! borrowed_text {
    ($($type:ident;)*) => {$(
        impl Serialize for $type<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de: 'a, 'a> Deserialize<'de> for $type<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(<&str>::deserialize(deserializer)?).map_err(Error::custom)
            }
        }
    )*};
}

borrowed_text!(Text; TopicFilter; TopicName;);

macro_rules! owned_text {
    ($($type:ident;)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = alloc::string::String::deserialize(deserializer)?;
                Self::try_from(text).map_err(|error| Error::custom(error.to_string()))
            }
        }
    )*};
}

owned_text!(TopicFilterBuf; TopicNameBuf;);

#[cfg(test)]
mod tests {
    use core::fmt::Debug;

    use serde::de::DeserializeOwned;

    use super::*;

    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, json: &str) {
        assert_eq!(serde_json::to_string(value).unwrap(), json);
        assert_eq!(serde_json::from_str::<T>(json).unwrap(), *value);
    }

    #[test]
    fn numbers_are_numbers() {
        round_trip(&QoS::AtLeastOnce, "1");
        round_trip(&PacketId::MAX, "65535");
        round_trip(&ConnectReturnCode::NotAuthorized, "5");
        round_trip(&SubscribeReturnCode::Failure, "128");
        round_trip(&SubscribeReturnCode::Granted(QoS::ExactlyOnce), "2");
    }

    #[test]
    fn topics_are_strings() {
        round_trip(&TopicNameBuf::new("a/b").unwrap(), "\"a/b\"");
        round_trip(&TopicFilterBuf::new("a/#").unwrap(), "\"a/#\"");
        assert_eq!(serde_json::from_str::<TopicName<'_>>("\"a/b\"").unwrap(), "a/b");
        assert_eq!(serde_json::to_string(&Text::new("id").unwrap()).unwrap(), "\"id\"");
    }

    // MQTT-2.3.1-1, MQTT-4.7.1-1
    #[test]
    fn what_is_not_valid_is_not_read() {
        assert!(serde_json::from_str::<QoS>("3").is_err());
        assert!(serde_json::from_str::<PacketId>("0").is_err());
        assert!(serde_json::from_str::<ConnectReturnCode>("6").is_err());
        assert!(serde_json::from_str::<SubscribeReturnCode>("3").is_err());
        assert!(serde_json::from_str::<TopicNameBuf>("\"a/#\"").is_err());
        assert!(serde_json::from_str::<TopicFilterBuf>("\"a#\"").is_err());
        assert!(serde_json::from_str::<TopicName<'_>>("\"\"").is_err());
    }
}
