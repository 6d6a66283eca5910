//! The picture of the screen in the README is what the screen draws. `UPDATE_PICTURE=1` makes it
//! anew.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use mqtt_client::{Delivered, Stats};
use mqtt_nightlight::connection::Link;
use mqtt_nightlight::device::Device;
use mqtt_nightlight::lesson;
use mqtt_nightlight::life::Moment;
use mqtt_nightlight::rule::Rule;
use mqtt_nightlight::screen::Panel;
use mqtt_nightlight::sensor::{Mode, SimSensor};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

const WIDTH: u16 = 90;
const HEIGHT: u16 = 26;

/// Pixels of a character.
const CELL: (u16, u16) = (9, 18);

#[test]
fn the_picture_in_the_readme_is_what_the_screen_draws() {
    let picture = svg(&evening());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("screen.svg");
    if std::env::var_os("UPDATE_PICTURE").is_some() {
        std::fs::write(&path, &picture).expect("the picture can be written");
    }
    let kept = std::fs::read_to_string(&path).expect("there is a picture");
    assert!(
        kept == picture,
        "{} is not up to date: UPDATE_PICTURE=1 makes it anew",
        path.display()
    );
    assert!(picture.len() < 100_000, "{} bytes", picture.len());
}

/// A simulated evening, a reading a second, with a server that answers each.
fn evening() -> Buffer {
    let start = Instant::now();
    let rule = Rule { threshold: lesson::THRESHOLD, hysteresis: 20.0 };
    let mut device = Device::new("attic", rule, Duration::from_secs(15), start);
    let mut sensor = SimSensor::new(Mode::Day);
    let mut panel = Panel::new(true);
    device.handle_link(Link::Connected, start);
    // Not a whole day: noon is behind, and it has just become dark.
    for tenth in 0..=385 {
        let now = start + Duration::from_millis(100) * tenth;
        let light = sensor.light_at(now);
        device.handle_reading(Ok(light));
        panel.insert_light(device.light(), now);
        if tenth % 10 == 0 {
            device.handle_telemetry(&lesson::telemetry(light));
            device.handle_outcome(Ok(Delivered::Written));
            let led_on = rule.decide(light.into(), false);
            device.handle_command(lesson::command(led_on).as_bytes(), now);
        }
        while let Some(line) = device.poll_line() {
            panel.insert_line(&line);
        }
    }
    let moment = Moment {
        device: &device,
        broker: "mqtt://127.0.0.1:1883",
        mode: Some(Mode::Day),
        stats: Stats::default(),
        now: start + Duration::from_millis(38_500),
    };
    let mut terminal =
        Terminal::new(TestBackend::new(WIDTH, HEIGHT)).expect("a terminal of memory");
    terminal.draw(|frame| panel.draw(frame, &moment)).expect("it can be drawn in");
    terminal.backend().buffer().clone()
}

/// The cells of a terminal as a drawing.
fn svg(buffer: &Buffer) -> String {
    let (width, height) = (WIDTH * CELL.0, HEIGHT * CELL.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"-12 -12 {w} {h}\">\n\
         <rect x=\"-12\" y=\"-12\" width=\"{w}\" height=\"{h}\" rx=\"8\" fill=\"#16181d\"/>\n\
         <g font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" \
         font-size=\"15\" xml:space=\"preserve\">\n",
        w = width + 24,
        h = height + 24
    );
    for y in 0..HEIGHT {
        let mut x = 0;
        while x < WIDTH {
            let cell = &buffer[(x, y)];
            if let Some(shape) = shape(cell, x, y) {
                svg.push_str(&shape);
                x += 1;
                continue;
            }
            // Words of one style are one text.
            let mut text = String::new();
            let begin = x;
            while x < WIDTH && style(&buffer[(x, y)]) == style(cell) {
                let symbol = buffer[(x, y)].symbol();
                if shape(&buffer[(x, y)], x, y).is_some() || text.ends_with("  ") {
                    break;
                }
                text.push_str(symbol);
                x += 1;
            }
            write_text(&mut svg, text.trim_end(), begin, y, cell);
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

fn style(cell: &Cell) -> (Color, Modifier) {
    (cell.fg, cell.modifier)
}

fn write_text(svg: &mut String, text: &str, x: u16, y: u16, cell: &Cell) {
    let spaces = text.len() - text.trim_start().len();
    let text = text.trim_start();
    if text.is_empty() {
        return;
    }
    let x = (x + spaces as u16) * CELL.0;
    let length = text.chars().count() as u16 * CELL.0;
    let weight = match cell.modifier.contains(Modifier::BOLD) {
        true => " font-weight=\"bold\"",
        false => "",
    };
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let (y, fill) = (y * CELL.1 + 14, color(cell.fg));
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" textLength=\"{length}\" fill=\"{fill}\"{weight}>{text}</text>"
    );
}

/// Frames, blocks and dots, which fonts draw with gaps.
fn shape(cell: &Cell, x: u16, y: u16) -> Option<String> {
    let (left, top) = (x * CELL.0, y * CELL.1);
    let (fore, back) = (color(cell.fg), color(cell.bg));
    let rect = |x: f64, y: f64, w: f64, h: f64, fill: &str| {
        format!("<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\"/>\n")
    };
    let (l, t, w, h) = (f64::from(left), f64::from(top), f64::from(CELL.0), f64::from(CELL.1));
    let behind = match cell.bg {
        Color::Reset => String::new(),
        _ => rect(l, t, w, h, back),
    };
    let symbol = cell.symbol().chars().next()?;
    let before = match symbol {
        ' ' if cell.bg != Color::Reset => String::new(),
        '█'..='▏' => {
            let eighths = f64::from(u32::from('▏') - u32::from(symbol) + 1);
            rect(l, t, w * eighths / 8.0, h, fore)
        }
        '\u{2801}'..='\u{28ff}' => braille(symbol, l, t, fore),
        '─' | '│' | '╭' | '╮' | '╰' | '╯' => {
            let (cx, cy, r, b) = (l + w / 2.0, t + h / 2.0, l + w, t + h);
            let path = match symbol {
                '─' => format!("M{l} {cy}H{r}"),
                '│' => format!("M{cx} {t}V{b}"),
                '╭' => format!("M{cx} {b}Q{cx} {cy} {r} {cy}"),
                '╮' => format!("M{cx} {b}Q{cx} {cy} {l} {cy}"),
                '╰' => format!("M{cx} {t}Q{cx} {cy} {r} {cy}"),
                _ => format!("M{cx} {t}Q{cx} {cy} {l} {cy}"),
            };
            format!("<path d=\"{path}\" fill=\"none\" stroke=\"{fore}\"/>\n")
        }
        _ => return None,
    };
    Some(behind + &before)
}

/// The eight dots of a cell, in the order of their bits.
fn braille(symbol: char, left: f64, top: f64, fill: &str) -> String {
    const DOTS: [(u8, u8); 8] = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)];
    let bits = u32::from(symbol) - 0x2800;
    let mut path = String::new();
    for (bit, (column, row)) in DOTS.into_iter().enumerate() {
        if bits >> bit & 1 == 1 {
            let (x, y) = (left + 1.0 + 4.5 * f64::from(column), top + 1.0 + 4.5 * f64::from(row));
            let _ = write!(path, "M{x} {y}h3v3h-3z");
        }
    }
    format!("<path d=\"{path}\" fill=\"{fill}\"/>\n")
}

fn color(color: Color) -> &'static str {
    match color {
        Color::Yellow => "#e5c07b",
        Color::LightYellow => "#ffe58a",
        Color::DarkGray => "#6b7280",
        Color::Blue => "#61afef",
        Color::Green => "#98c379",
        Color::Red => "#e06c75",
        Color::Magenta => "#c678dd",
        Color::Rgb(40, ..) => "#282c34",
        Color::Rgb(..) => "#3c3f46",
        _ => "#d7dae0",
    }
}
