use crate::codecs::{OWNING_PEERS, PEERS, codec};
use crate::meter::Meter;
use crate::workload::stream;

/// What is done with the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Decode,
    /// In pieces of this many bytes; 0 is 1 to 1460.
    DecodeChunks(usize),
    Encode,
}

/// One line of the tables. The targets are ratios to the best peer.
pub struct Row {
    pub name: &'static str,
    pub stream: &'static str,
    pub work: Work,
    pub ours: &'static str,
    pub peers: &'static [&'static str],
    pub time_target: f64,
    pub instruction_target: Option<f64>,
}

const fn row(
    name: &'static str,
    stream: &'static str,
    work: Work,
    time_target: f64,
    instruction_target: Option<f64>,
) -> Row {
    Row { name, stream, work, ours: "ours", peers: &PEERS, time_target, instruction_target }
}

pub const ROWS: [Row; 21] = [
    row("decode publish 16 B", "publish 16 B", Work::Decode, 0.45, Some(0.40)),
    row("decode publish 256 B", "publish 256 B", Work::Decode, 0.45, Some(0.38)),
    row("decode publish 64 KiB", "publish 64 KiB", Work::Decode, 0.55, Some(0.42)),
    row("decode puback", "puback", Work::Decode, 0.33, Some(0.33)),
    row("decode connect", "connect", Work::Decode, 0.43, Some(0.40)),
    row("decode subscribe 10", "subscribe 10", Work::Decode, 0.25, Some(0.40)),
    row("decode mixed", "mixed", Work::Decode, 0.48, Some(0.45)),
    row("decode mixed, 7 B chunks", "mixed", Work::DecodeChunks(7), 0.72, Some(0.85)),
    row("decode mixed, random chunks", "mixed", Work::DecodeChunks(0), 0.48, Some(0.50)),
    owned(row("decode publish 16 B, owned", "publish 16 B", Work::Decode, 0.36, None)),
    owned(row("decode puback, owned", "puback", Work::Decode, 0.30, None)),
    owned(row("decode mixed, owned", "mixed", Work::Decode, 0.40, None)),
    row("encode publish 16 B", "publish 16 B", Work::Encode, 0.55, Some(0.60)),
    row("encode publish 256 B", "publish 256 B", Work::Encode, 0.75, Some(0.72)),
    copied(row("encode publish 64 KiB", "publish 64 KiB", Work::Encode, 1.0, None)),
    vectored(row("encode publish 64 KiB, vectored", "publish 64 KiB", Work::Encode, 0.25, None)),
    row("encode puback", "puback", Work::Encode, 0.75, None),
    row("encode connect", "connect", Work::Encode, 0.60, Some(0.65)),
    row("encode subscribe 10", "subscribe 10", Work::Encode, 0.50, None),
    row("encode mixed", "mixed", Work::Encode, 0.48, Some(0.75)),
    Row { ours: "ours owned", ..row("encode mixed, BytesMut", "mixed", Work::Encode, 1.0, None) },
];

const fn owned(row: Row) -> Row {
    Row { ours: "ours owned", peers: &OWNING_PEERS, ..row }
}

/// Those that copy a payload into one buffer for all packets, which is what takes the time.
const fn copied(row: Row) -> Row {
    Row { peers: &["mqttrs", "mqttbytes", "rumqttc"], ..row }
}

/// Only ntex-mqtt shares payloads; the others copy.
const fn vectored(row: Row) -> Row {
    Row { ours: "ours vectored", peers: &["ntex-mqtt"], ..row }
}

impl Row {
    pub fn run(&self, codec_name: &str, stream: &[u8], meter: &mut Meter) {
        let codec = codec(codec_name);
        match self.work {
            Work::Decode => codec.decode(stream, meter),
            Work::DecodeChunks(size) => codec.decode_chunks(stream, size, meter),
            Work::Encode => codec.encode(stream, meter),
        }
    }

    /// One line: ours, the peers, the ratio to the best of them, the target.
    pub fn print(&self, figures: &[f64], target: Option<f64>) {
        let (ours, peers) = figures.split_first().expect("a row has our figure");
        let best = peers.iter().copied().fold(f64::INFINITY, f64::min);
        print!("{:<32} {ours:>9.1}", self.name);
        for name in PEERS {
            match self.peers.iter().position(|peer| *peer == name) {
                Some(at) => print!(" {:>11.1}", peers[at]),
                None => print!(" {:>11}", "-"),
            }
        }
        let ratio = ours / best;
        match target {
            Some(target) if ratio <= target => println!("  {ratio:>5.2}  {target:.2}"),
            Some(target) => println!("  {ratio:>5.2}  {target:.2}  missed"),
            None => println!("  {ratio:>5.2}     -"),
        }
    }
}

pub fn print_header(unit: &str) {
    print!("\n{:<32} {:>9}", format!("{unit} a packet"), "ours");
    for name in PEERS {
        print!(" {name:>11}");
    }
    println!("  ratio  target");
}

/// The codecs of a row take turns, so that a slow phase of the machine meets all of them.
pub fn print_times() {
    const ROUNDS: usize = 150;
    print_header("ns");
    for row in &ROWS {
        let stream = stream(row.stream);
        let codecs: Vec<&str> = [row.ours].into_iter().chain(row.peers.iter().copied()).collect();
        let mut meters: Vec<Meter> = codecs.iter().map(|_| Meter::new()).collect();
        for _ in 0..ROUNDS {
            for (codec, meter) in codecs.iter().zip(&mut meters) {
                row.run(codec, &stream, meter);
            }
        }
        for (codec, meter) in codecs.iter().zip(&meters) {
            assert_eq!(meter.packets(), meters[0].packets(), "{codec} lost packets");
        }
        let figures: Vec<f64> = meters.iter().map(Meter::nanoseconds).collect();
        row.print(&figures, Some(row.time_target));
    }
}

/// Runs one codec on one row once, and prints the number of packets.
pub fn run_once(row: &str, codec: &str) {
    let row = ROWS.iter().find(|candidate| candidate.name == row).expect("a row of the table");
    let mut meter = Meter::new();
    row.run(codec, &stream(row.stream), &mut meter);
    println!("{}", meter.packets());
}
