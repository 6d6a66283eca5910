//! Feature `json`: payloads as JSON.

use mqtt_codec::{TopicError, TopicNameBuf};
use serde::Serialize;
use serde::de::Deserialize;

use crate::message::{Message, Publish};

impl Publish {
    /// A message whose payload is this value as JSON.
    ///
    /// # Errors
    /// If the value cannot be JSON, such as a map whose keys are no strings.
    pub fn json<T>(topic: T, value: &impl Serialize) -> Result<Self, serde_json::Error>
    where
        T: TryInto<TopicNameBuf>,
        TopicError: From<T::Error>,
    {
        Ok(Self::new(topic, serde_json::to_vec(value)?))
    }
}

impl Message {
    /// Reads the payload as JSON.
    ///
    /// # Errors
    /// If it is not JSON, or not of this type.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.payload())
    }
}
