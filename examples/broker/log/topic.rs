use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Lines that wait to be published. A broker that logs faster than it publishes loses the rest, and
/// not its memory.
const WAITING: usize = 1000;

thread_local! {
    /// Set while a line is published: what that leads to is not published again, without an end.
    static PUBLISHING: Cell<bool> = const { Cell::new(false) };
}

/// The lines for `log_dest topic`, on their way from the log to the broker. A handle.
#[derive(Clone)]
pub struct TopicLog {
    sender: Sender<TopicLine>,
    receiver: Arc<Mutex<Option<Receiver<TopicLine>>>>,
}

/// A line to be published.
#[derive(Debug)]
pub struct TopicLine {
    /// The topic, `$SYS/broker/log/E` and the like.
    pub topic: String,
    /// The line.
    pub text: String,
}

impl TopicLog {
    pub(super) fn new() -> Self {
        let (sender, receiver) = channel(WAITING);
        Self { sender, receiver: Arc::new(Mutex::new(Some(receiver))) }
    }

    pub(super) fn push(&self, name: &str, line: &str) {
        if !PUBLISHING.get() {
            let topic = format!("$SYS/broker/log/{name}");
            // Full, or nobody publishes.
            let _ = self.sender.try_send(TopicLine { topic, text: line.to_owned() });
        }
    }

    /// Publishes lines as they come. Only the first caller gets any; never ready.
    pub async fn publish_with(&self, mut publish: impl FnMut(&TopicLine)) {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut receiver) = receiver else { return std::future::pending().await };
        while let Some(line) = receiver.recv().await {
            PUBLISHING.set(true);
            publish(&line);
            PUBLISHING.set(false);
        }
    }
}
