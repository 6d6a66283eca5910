//! Publishes messages from the command line, with the flags of `mosquitto_pub`.
//!
//! The status is 0 only if every message was delivered at its QoS. Lines of standard input are read
//! as fast as the broker takes them.

mod connection;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mqtt_client::{Bytes, Client, Publish, QoS, Receipt, TopicNameBuf};
use mqtt_codec::MAX_PACKET;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use connection::{Connection, FAILED};

/// Publish MQTT messages.
#[derive(Parser)]
#[command(name = "pub", version, disable_help_flag = true, disable_version_flag = true)]
#[command(args_override_self = true)]
struct Options {
    #[command(flatten)]
    connection: Connection,
    /// Topic to publish to
    #[arg(short = 't', long)]
    topic: Option<String>,
    /// QoS: 0, 1 or 2
    #[arg(short = 'q', long, default_value = "0", value_parser = connection::qos)]
    qos: QoS,
    /// Retain the message
    #[arg(short = 'r', long)]
    retain: bool,
    #[command(flatten)]
    source: Source,
    /// Publish the message so many times
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,
    /// Seconds between them
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    repeat_delay: Duration,
    /// Seconds to wait for the deliveries at the end; for ever without
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The message
    #[arg(short = 'm', long)]
    message: Option<String>,
    /// File whose contents are the message
    #[arg(short = 'f', long)]
    file: Option<PathBuf>,
    /// Standard input is the message
    #[arg(short = 's', long)]
    stdin_file: bool,
    /// Each line of standard input is a message
    #[arg(short = 'l', long)]
    stdin_line: bool,
    /// An empty message
    #[arg(short = 'n', long)]
    null_message: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match connection::parse::<Options>() {
        Ok(options) => options,
        Err(status) => return status,
    };
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(status) => status,
    }
}

async fn run(options: &Options) -> Result<(), ExitCode> {
    let connection = &options.connection;
    let fail = |error: &dyn std::fmt::Display| {
        connection.complain(error);
        ExitCode::from(FAILED)
    };
    let (builder, topic) = connection.builder().map_err(|error| fail(&error))?;
    let topic = options.topic.clone().or(topic).ok_or_else(|| fail(&"a topic must be given"))?;
    let topic = TopicNameBuf::try_from(topic).map_err(|error| fail(&error))?;
    let message = match &options.source {
        Source { message: Some(message), .. } => Some(Bytes::from(message.clone())),
        Source { file: Some(path), .. } => {
            let read = File::open(path).and_then(read_message);
            Some(read.map_err(|error| fail(&format!("{}: {error}", path.display())))?.into())
        }
        Source { stdin_file: true, .. } => {
            let bytes = read_message(io::stdin()).map_err(|error| fail(&error))?;
            if bytes.is_empty() {
                return Err(fail(&"nothing on standard input; an empty message is -n"));
            }
            Some(bytes.into())
        }
        Source { null_message: true, .. } => Some(Bytes::new()),
        _ => None,
    };
    let client = builder.connect().await.map_err(|error| connection.report(&error))?;
    connection.tell_losses(&client);
    let mut deliveries = Deliveries { client, options, topic, receipts: Vec::new(), lost: 0 };
    let published = match message {
        Some(message) => deliveries.repeat(&message).await,
        None => deliveries.lines().await,
    };
    let published = published.map_err(|error| fail(&error));
    let limit = options.wait.unwrap_or(Duration::MAX);
    let finished = tokio::time::timeout(limit, deliveries.finish());
    let lost = finished.await.map_err(|_| fail(&"not everything was delivered in time"))?;
    deliveries.client.shutdown(Duration::from_secs(5)).await;
    published?;
    match lost {
        0 => Ok(()),
        lost => Err(fail(&format!("{lost} messages were not delivered"))),
    }
}

/// What a file or standard input holds, as far as a message can be as long.
fn read_message(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut bytes)?;
    check_length(&bytes)?;
    Ok(bytes)
}

/// Nothing longer is read: it may have no end, and then all memory would not be enough.
fn check_length(bytes: &[u8]) -> io::Result<()> {
    match bytes.len() as u64 > LONGEST {
        true => Err(io::Error::other(format!("a message has at most {LONGEST} bytes"))),
        false => Ok(()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "a number of seconds".to_owned())
}

/// What was handed to the client.
struct Deliveries<'a> {
    client: Client,
    options: &'a Options,
    topic: TopicNameBuf,
    receipts: Vec<Receipt>,
    lost: u64,
}

/// Receipts kept before they are looked at: the client's own queue bounds what is outstanding.
const RECEIPTS: usize = 4096;

/// The bytes of the largest packet.
const LONGEST: u64 = MAX_PACKET as u64;

type Failure = Box<dyn std::error::Error>;

impl Deliveries<'_> {
    async fn repeat(&mut self, message: &Bytes) -> Result<(), Failure> {
        for round in 0..self.options.repeat {
            if round > 0 && !self.options.repeat_delay.is_zero() {
                tokio::time::sleep(self.options.repeat_delay).await;
            }
            self.publish(message.clone()).await?;
        }
        Ok(())
    }

    async fn lines(&mut self) -> Result<(), Failure> {
        let mut input = BufReader::new(tokio::io::stdin());
        let mut line = Vec::new();
        while (&mut input).take(LONGEST + 1).read_until(b'\n', &mut line).await? > 0 {
            check_length(&line)?;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            self.publish(Bytes::copy_from_slice(&line)).await?;
            line.clear();
        }
        Ok(())
    }

    async fn publish(&mut self, payload: Bytes) -> Result<(), Failure> {
        let message = Publish::new(self.topic.clone(), payload);
        let message = message.qos(self.options.qos).retain(self.options.retain);
        self.receipts.push(self.client.publish(message).await?);
        if self.receipts.len() >= RECEIPTS {
            self.finish().await;
        }
        Ok(())
    }

    /// Waits for everything to be over, and says how much was lost.
    async fn finish(&mut self) -> u64 {
        for receipt in self.receipts.drain(..) {
            self.lost += u64::from(receipt.await.is_err());
        }
        self.lost
    }
}
