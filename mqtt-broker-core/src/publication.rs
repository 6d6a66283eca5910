use std::cell::{OnceCell, RefCell};
use std::ops::Range;

use bytes::Bytes;
use mqtt_codec::{Delivery, Frame, Publish, frame};

use crate::Message;
use crate::send_buffer::{SHARE_FROM, SendBuffer};

/// A PUBLISH on its way to its receivers: borrowed as it was read, and made a [`Message`] once, when
/// the first receiver has to keep it.
pub(crate) struct Publication<'a> {
    publish: Publish<'a>,
    /// Where it was read.
    part: Option<Part<'a>>,
    message: OnceCell<Message>,
}

/// Packets that were read at a time.
///
/// Messages with one topic and the same flags that follow each other have the same receivers, and are
/// let go of at about the same time: a run of them is copied into one block when the first of them
/// has to be kept. At QoS 1 that saves two allocations a message.
pub(crate) struct Batch<'a> {
    bytes: &'a [u8],
    /// The run that was copied last, and where it begins.
    copied: RefCell<(usize, Bytes)>,
}

/// The place of one packet in its batch.
#[derive(Clone)]
pub(crate) struct Part<'a> {
    batch: &'a Batch<'a>,
    frame: Range<usize>,
}

/// Bytes of a block: it is there for as long as one of its messages is, so that a client that leaves
/// one of them waiting holds no more than this for it.
const MAX_BLOCK: usize = 4 << 10;

impl<'a> Batch<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, copied: RefCell::default() }
    }

    pub(crate) fn part(&'a self, frame: Range<usize>) -> Part<'a> {
        Part { batch: self, frame }
    }

    /// A packet of its own or as part of a block.
    fn copy(&self, part: Range<usize>, topic: &[u8]) -> Bytes {
        let mut copied = self.copied.borrow_mut();
        let (start, block) = &*copied;
        if *start <= part.start && part.end <= start + block.len() {
            return block.slice(part.start - start..part.end - start);
        }
        let end = self.end_of_run(&part, topic);
        let block = Bytes::copy_from_slice(self.bytes.get(part.start..end).unwrap_or_default());
        if end == part.end {
            return block;
        }
        let first = block.slice(..part.len());
        *copied = (part.start, block);
        first
    }

    /// Where the packets end that begin with this one and differ in packet id and payload only.
    fn end_of_run(&self, part: &Range<usize>, topic: &[u8]) -> usize {
        let mut end = part.end;
        let first_byte = self.bytes.get(part.start);
        while let Some(rest) = self.bytes.get(end..)
            && rest.first() == first_byte
            && let Ok(Frame::Complete { body, end: len }) = frame(rest, MAX_BLOCK)
            && end + len - part.start <= MAX_BLOCK
            // Behind the length of the topic, which is the same if what follows is the same: a
            // topic that only begins like this one does makes the block larger than it needs to be.
            && rest.get(body + 2..len).is_some_and(|body| body.starts_with(topic))
        {
            end += len;
        }
        end
    }
}

impl<'a> Publication<'a> {
    /// One that was read as this part of a batch, if it is the packet as it was read.
    pub(crate) fn new(publish: Publish<'a>, part: Option<Part<'a>>) -> Self {
        // What is retained stays for long, alone.
        let part = part.filter(|_| !publish.retain);
        Self { publish, part, message: OnceCell::new() }
    }

    pub(crate) fn publish(&self) -> &Publish<'a> {
        &self.publish
    }

    /// The message as the publisher sent it, RETAIN flag included.
    #[expect(clippy::expect_used, reason = "it came in a packet that was no larger")]
    pub(crate) fn message(&self) -> &Message {
        self.message.get_or_init(|| {
            let frame = self.part.as_ref().map(|Part { batch, frame }| {
                batch.copy(frame.clone(), self.publish.topic.as_bytes())
            });
            frame
                .and_then(|frame| Message::from_frame(frame, &self.publish))
                .or_else(|| Message::from_publish(&self.publish).ok())
                .expect("what was decoded fits into a packet")
        })
    }

    /// Appends it, as a QoS 0 message to an established subscription, to what goes to a client.
    pub(crate) fn write_qos0(&self, out: &mut SendBuffer) {
        if self.publish.payload.len() < SHARE_FROM {
            let publish = Publish { delivery: Delivery::AtMostOnce, retain: false, ..self.publish };
            out.append(|own| publish.encode(own));
        } else {
            let message = self.message().with(mqtt_codec::QoS::AtMostOnce, false);
            message.write(Delivery::AtMostOnce, out);
        }
    }
}

impl<'a> From<&'a Message> for Publication<'a> {
    fn from(message: &'a Message) -> Self {
        Self { publish: message.publish(), part: None, message: OnceCell::from(message.clone()) }
    }
}
