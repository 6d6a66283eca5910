//! Prints the messages of topics, with the flags of `mosquitto_sub`.

#[path = "../pub/connection.rs"]
mod connection;
mod format;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mqtt_client::{
    AckMode, Client, Message, Publish, QoS, Subscription, TopicFilterBuf, TopicNameBuf,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};

use connection::{Connection, FAILED};
use format::Format;

/// Without `-W`: longer than any machine is up.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The status when the time of `-W` is up.
const TIMED_OUT: u8 = 27;

/// Subscribe to MQTT topics and print what comes.
#[derive(Parser)]
#[command(name = "sub", version, disable_help_flag = true, disable_version_flag = true)]
#[command(args_override_self = true)]
struct Options {
    #[command(flatten)]
    connection: Connection,
    /// Topic filter; may be repeated
    #[arg(short = 't', long)]
    topic: Vec<String>,
    /// QoS: 0, 1 or 2
    #[arg(short = 'q', long, default_value = "0", value_parser = connection::qos)]
    qos: QoS,
    /// Print the topic before the payload
    #[arg(short = 'v', long)]
    verbose: bool,
    /// End after so many messages
    #[arg(short = 'C', value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds, with status 27
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
    /// No line end after a payload
    #[arg(short = 'N')]
    no_newline: bool,
    /// Do not print retained messages
    #[arg(short = 'R', conflicts_with = "retained_only")]
    no_retained: bool,
    /// Print retained messages only, and end with the first other one
    #[arg(long)]
    retained_only: bool,
    /// Clear retained messages at the broker
    #[arg(long)]
    remove_retained: bool,
    /// How to print: %t topic, %p payload, %q QoS, %r retain, %l length, %x hex, %j JSON, %I time
    #[arg(short = 'F', value_parser = Format::parse)]
    format: Option<Format>,
    /// One JSON object for each message
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Do not print messages of this filter; may be repeated
    #[arg(short = 'T', long)]
    filter_out: Vec<String>,
    /// End this subscription of a kept session; may be repeated
    #[arg(short = 'U', long)]
    unsubscribe: Vec<String>,
    /// End when everything is granted
    #[arg(short = 'E')]
    exit_when_granted: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match connection::parse::<Options>() {
        Ok(options) => options,
        Err(status) => return status,
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(status) => status,
    }
}

async fn run(mut options: Options) -> Result<(), ExitCode> {
    let fail = |connection: &Connection, error: &dyn std::fmt::Display| {
        connection.complain(error);
        ExitCode::from(FAILED)
    };
    let connection = &options.connection;
    let (builder, topic) = connection.builder().map_err(|error| fail(connection, &error))?;
    options.topic.extend(topic);
    if options.topic.is_empty() && options.unsubscribe.is_empty() {
        return Err(fail(connection, &"a topic must be given"));
    }
    let mut hidden = Vec::new();
    for filter in &options.filter_out {
        let filter = filter.as_str();
        hidden.push(TopicFilterBuf::new(filter).map_err(|error| fail(connection, &error))?);
    }
    for filter in &options.unsubscribe {
        TopicFilterBuf::new(filter).map_err(|error| fail(connection, &error))?;
    }
    let mut format = match &options.format {
        Some(format) => format.clone(),
        None if options.json => Format::json(),
        None => Format::plain(options.verbose),
    };
    if !options.no_newline {
        format = format.with_newline();
    }
    // Before CONNECT, so that what a kept session delivers at once has a place to go.
    let filters = options.topic.iter().map(|filter| (filter.as_str(), options.qos));
    let (builder, mut messages) = builder.subscription_all(filters, AckMode::Taken);
    let deadline =
        Instant::now() + options.timeout.map_or(FOREVER, |limit| Duration::from_secs(limit.into()));
    let timed_out = |_| {
        connection.complain("Timed out");
        ExitCode::from(TIMED_OUT)
    };
    let client = timeout_at(deadline, builder.connect()).await.map_err(timed_out)?;
    let client = client.map_err(|error| connection.report(&error))?;
    connection.tell_losses(&client);
    let work = async {
        for filter in &options.unsubscribe {
            client.unsubscribe(filter).await.map_err(|error| fail(connection, &error))?;
        }
        print(&options, &format, &hidden, &client, &mut messages).await
    };
    let result = timeout_at(deadline, work).await;
    // Also by Ctrl-C, by TERM and when the time is up: the broker is told, and keeps no will.
    client.shutdown(Duration::from_secs(2)).await;
    result.map_err(timed_out)?
}

/// Prints messages until it is enough.
async fn print(
    options: &Options,
    format: &Format,
    hidden: &[TopicFilterBuf],
    client: &Client,
    messages: &mut Subscription,
) -> Result<(), ExitCode> {
    if options.topic.is_empty() {
        return Ok(());
    }
    let refused = messages.grants().iter().filter(|(_, g)| matches!(g, Some(Err(_)))).count();
    if refused > 0 {
        options.connection.complain(format!("{refused} subscriptions were refused"));
    }
    if refused == options.topic.len() {
        return Err(ExitCode::from(FAILED));
    }
    if options.exit_when_granted {
        return Ok(());
    }
    let fail = |error: String| {
        options.connection.complain(error);
        ExitCode::from(FAILED)
    };
    let listen = |kind| signal(kind).map_err(|error| fail(format!("signals: {error}")));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut seen = 0;
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        };
        let Some(message) = message else { return Err(ExitCode::from(FAILED)) };
        if options.retained_only && !message.retain() {
            return Ok(());
        }
        let topic = message.topic();
        let is_hidden = hidden.iter().any(|filter| filter.as_topic_filter().matches(topic))
            || (options.no_retained && message.retain());
        if is_hidden {
            continue;
        }
        if options.remove_retained && message.retain() {
            remove(client, &message).await;
        }
        match write(format, &message) {
            Ok(()) => {}
            // Whoever read it has gone.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(fail(format!("standard output: {error}"))),
        }
        seen += 1;
        if options.count == Some(seen) {
            return Ok(());
        }
    }
}

/// Each message is out before the next one is taken.
fn write(format: &Format, message: &Message) -> io::Result<()> {
    let mut line = Vec::new();
    if format.write(message, &mut line) {
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()
    } else {
        eprintln!("Error: the payload is not JSON on topic {}", message.topic());
        Ok(())
    }
}

async fn remove(client: &Client, message: &Message) {
    let topic = TopicNameBuf::from(message.topic());
    let clear = Publish::new(topic, "").retain(true).qos(QoS::AtLeastOnce);
    if let Ok(receipt) = client.publish(clear).await {
        drop(receipt);
    }
}
