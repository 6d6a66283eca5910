//! The client from outside: one file a topic.

mod scripted;
mod support;
mod with_broker;
