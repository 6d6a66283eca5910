use std::collections::VecDeque;
use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Axis, Block, BorderType, Chart, Dataset, GraphType, Paragraph};

use super::history::{History, SPAN};
use crate::connection::Link;
use crate::device::{Control, Line};
use crate::lesson::BRIGHTEST;
use crate::life::Moment;

const LIGHT: Color = Color::Yellow;
const FRAME: Color = Color::DarkGray;
const THRESHOLD: Color = Color::Blue;

/// Lines that are kept for the log: more than a terminal is high.
const LINES: usize = 200;

/// What is drawn of a device. It remembers what a moment does not tell: lines and light of before.
#[derive(Debug)]
pub struct Panel {
    has_led: bool,
    lines: VecDeque<Line>,
    history: History,
}

impl Panel {
    /// An empty one, with the picture of an LED or without.
    pub fn new(has_led: bool) -> Self {
        Self { has_led, lines: VecDeque::new(), history: History::default() }
    }

    /// A line of the log.
    pub fn insert_line(&mut self, line: &Line) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.clone());
    }

    /// A point of the plot.
    pub fn insert_light(&mut self, light: Option<u16>, now: Instant) {
        if let Some(light) = light {
            self.history.insert(light, now);
        }
    }

    /// Draws a moment.
    pub fn draw(&self, frame: &mut Frame<'_>, moment: &Moment<'_>) {
        let [head, light, plot, counts, log, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(5),
            Constraint::Fill(2),
            Constraint::Length(2),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        draw_head(frame, head, moment);
        let led = if self.has_led { 24 } else { 0 };
        let [bar, led] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(led)]).areas(light);
        draw_bar(frame, bar, moment);
        draw_led(frame, led, moment);
        self.draw_plot(frame, plot, moment);
        draw_counts(frame, counts, moment);
        self.draw_log(frame, log);
        let keys_line = " ↑ ↓ 0-9 light   d day and night   r random walk   q quit";
        let keys_line = if moment.mode.is_some() { keys_line } else { " q quit" };
        frame.render_widget(Paragraph::new(keys_line.fg(FRAME)), keys);
    }

    fn draw_plot(&self, frame: &mut Frame<'_>, area: Rect, moment: &Moment<'_>) {
        let span = SPAN.as_secs_f64();
        let threshold = moment.device.rule().threshold;
        let rule = [(-span, threshold), (0.0, threshold)];
        let points = self.history.points(moment.now);
        let line = |points, color| {
            let line = Dataset::default().data(points).graph_type(GraphType::Line);
            line.marker(Marker::Braille).style(Style::new().fg(color))
        };
        let axis = || Axis::default().style(Style::new().fg(FRAME));
        let brightest = BRIGHTEST.to_string();
        let chart = Chart::new(vec![line(&rule, THRESHOLD), line(&points, LIGHT)])
            .block(framed("The last minute"))
            .x_axis(axis().bounds([-span, 0.0]))
            .y_axis(axis().bounds([0.0, BRIGHTEST.into()]).labels(["0".to_owned(), brightest]));
        frame.render_widget(chart, area);
    }

    fn draw_log(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = framed("Log");
        let rows = usize::from(block.inner(area).height);
        let first = self.lines.len().saturating_sub(rows);
        let lines = self.lines.iter().skip(first).map(|line| match line {
            Line::Said(line) => Text::from(line.as_str()),
            Line::Noted(line) => Text::from(line.as_str().fg(Color::Magenta)),
        });
        frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), area);
    }
}

fn framed(title: &str) -> Block<'static> {
    let block = Block::bordered().border_type(BorderType::Rounded);
    block.border_style(Style::new().fg(FRAME)).title(format!(" {title} ").fg(Color::Reset))
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, moment: &Moment<'_>) {
    let link = moment.device.link();
    let words = match link {
        Link::Connected => format!("connected to {}", moment.broker),
        link => link.at(moment.now).to_string(),
    };
    let color = match link {
        Link::Connected => Color::Green,
        Link::Connecting => Color::Yellow,
        Link::Waiting { .. } | Link::Stopped(_) => Color::Red,
    };
    let name = format!(" Nightlight {}", moment.device.id());
    let [left, right] = Layout::horizontal([
        Constraint::Length(name.chars().count() as u16 + 2),
        Constraint::Fill(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(name.bold()), left);
    let link = Text::from(vec![Span::from("● ").fg(color), Span::from(words), Span::from(" ")]);
    frame.render_widget(Paragraph::new(link).alignment(Alignment::Right), right);
}

fn draw_bar(frame: &mut Frame<'_>, area: Rect, moment: &Moment<'_>) {
    let title = match moment.mode {
        Some(mode) => format!("Light, {mode}"),
        None => "Light".to_owned(),
    };
    let block = framed(&title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [number, bar, scale] = Layout::vertical([Constraint::Length(1); 3]).areas(inner);
    let Some(light) = moment.device.light() else {
        frame.render_widget(Paragraph::new(" no reading yet"), number);
        return;
    };
    frame.render_widget(Paragraph::new(format!(" {light}").bold().fg(LIGHT)), number);
    let part = |light: f64| (light / f64::from(BRIGHTEST)).clamp(0.0, 1.0);
    let blocks = Paragraph::new(blocks(part(light.into()), bar.width));
    frame.render_widget(blocks.style(Style::new().fg(LIGHT).bg(Color::Rgb(40, 40, 40))), bar);
    let threshold = moment.device.rule().threshold;
    let at = (part(threshold) * f64::from(scale.width)) as usize;
    let mark = format!("{:at$}▲ {threshold}", "");
    frame.render_widget(Paragraph::new(mark.fg(THRESHOLD)), scale);
}

/// A bar as long as this part of a width, to an eighth of a cell.
fn blocks(part: f64, width: u16) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part * f64::from(width) * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

fn draw_led(frame: &mut Frame<'_>, area: Rect, moment: &Moment<'_>) {
    let device = moment.device;
    let block = framed("LED");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [_, lamp, _, words] = Layout::horizontal([
        Constraint::Length(1),
        Constraint::Length(6),
        Constraint::Length(2),
        Constraint::Fill(1),
    ])
    .areas(inner);
    let color = if device.led_on() { Color::LightYellow } else { Color::Rgb(60, 60, 60) };
    frame.render_widget(Block::new().style(Style::new().bg(color)), lamp);
    let (who, color) = match device.control() {
        Control::Nobody => ("no command", FRAME),
        Control::Server => ("by the server", Color::Reset),
        Control::Local => ("local", Color::Magenta),
    };
    let state = if device.led_on() { "ON" } else { "off" };
    let words_lines = vec![
        Text::from(state.add_modifier(Modifier::BOLD)),
        Text::default(),
        Text::from(who.fg(color)),
    ];
    frame.render_widget(Paragraph::new(words_lines), words);
}

fn draw_counts(frame: &mut Frame<'_>, area: Rect, moment: &Moment<'_>) {
    let tally = moment.device.tally();
    let queued = moment.stats.queued + moment.stats.in_flight;
    let count = |name: &'static str, number: u64, color| {
        let number = Span::from(number.to_string()).style(Style::new().fg(color).bold());
        vec![Span::from(format!("  {name} ")).fg(FRAME), number]
    };
    let mut counts = Vec::new();
    let seldom = |number: u64, color| if number > 0 { color } else { FRAME };
    counts.extend(count("sent", tally.sent, Color::Reset));
    counts.extend(count("acknowledged", tally.acknowledged, Color::Reset));
    counts.extend(count("queued", queued as u64, seldom(queued as u64, Color::Magenta)));
    counts.extend(count("dropped", tally.dropped, seldom(tally.dropped, Color::Red)));
    let command = match moment.device.last_command() {
        Some(command) => {
            let age = moment.now.saturating_duration_since(command.at).as_secs();
            vec![
                Span::from("  last command ").fg(FRAME),
                Span::from(command.text.clone()).bold(),
                Span::from(format!(" {age} s ago")),
            ]
        }
        None => vec![Span::from("  no command yet").fg(FRAME)],
    };
    frame.render_widget(Paragraph::new(vec![Text::from(counts), Text::from(command)]), area);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mqtt_client::{ConnectionError, Delivered, Stats};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::device::Device;
    use crate::rule::Rule;
    use crate::sensor::Mode;

    struct Picture {
        panel: Panel,
        device: Device,
        start: Instant,
    }

    impl Picture {
        fn new() -> Self {
            let start = Instant::now();
            let rule = Rule { threshold: 300.0, hysteresis: 20.0 };
            let device = Device::new("attic", rule, Duration::from_secs(15), start);
            Self { panel: Panel::new(true), device, start }
        }

        /// The rows of a terminal of this size.
        fn rows(&mut self, width: u16, height: u16, seconds: u64) -> Vec<String> {
            while let Some(line) = self.device.poll_line() {
                self.panel.insert_line(&line);
            }
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let moment = Moment {
                device: &self.device,
                broker: "mqtt://127.0.0.1:1883",
                mode: Some(Mode::Day),
                stats: Stats::default(),
                now: self.start + Duration::from_secs(seconds),
            };
            terminal.draw(|frame| self.panel.draw(frame, &moment)).unwrap();
            let buffer = terminal.backend().buffer();
            let rows = buffer.content.chunks(width.into());
            rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect()).collect()
        }
    }

    fn has(rows: &[String], words: &str) -> bool {
        rows.iter().any(|row| row.contains(words))
    }

    #[test]
    fn everything_that_matters_is_on_the_screen() {
        let mut picture = Picture::new();
        let start = picture.start;
        picture.device.handle_link(Link::Connected, start);
        picture.device.handle_reading(Ok(120));
        picture.device.handle_telemetry("{\"light\": 120}");
        picture.device.handle_outcome(Ok(Delivered::Written));
        picture.device.handle_command(b"{\"led_on\": true}", start);
        let rows = picture.rows(80, 24, 7);
        for words in [
            "Nightlight attic",
            "● connected to mqtt://127.0.0.1:1883",
            "Light, day and night",
            " 120",
            "▲ 300",
            "ON",
            "by the server",
            "sent 1  acknowledged 0  queued 0  dropped 0",
            "last command {'led_on': True} 7 s ago",
            "Sending telemetry  {\"light\": 120}",
            "Message received: {'led_on': True}",
            "q quit",
        ] {
            assert!(has(&rows, words), "{words:?} is not in {rows:#?}");
        }
    }

    #[test]
    fn without_a_connection_it_says_why_when_it_tries_again_and_who_decides() {
        let mut picture = Picture::new();
        let start = picture.start;
        picture.device.handle_reading(Ok(120));
        let until = start + Duration::from_millis(18_200);
        let cause = ConnectionError::ClosedByBroker;
        picture.device.handle_link(Link::Waiting { until, cause }, start);
        picture.device.handle_timeout(start + Duration::from_secs(15));
        let rows = picture.rows(90, 24, 15);
        for words in ["retry in 3.2 s: the broker closed the connection", "local", "ON"] {
            assert!(has(&rows, words), "{words:?} is not in {rows:#?}");
        }
    }

    #[test]
    fn the_bar_is_as_long_as_the_light_is_bright() {
        for (part, bar) in
            [(0.0, ""), (0.01, "▏"), (0.5, "████"), (0.55, "████▍"), (1.0, "████████")]
        {
            assert_eq!(blocks(part, 8), bar, "{part}");
        }
    }

    #[test]
    fn no_terminal_is_too_small_for_it() {
        let mut picture = Picture::new();
        picture.device.handle_reading(Ok(1023));
        for (width, height) in [(1, 1), (20, 5), (40, 12), (300, 100)] {
            picture.rows(width, height, 0);
        }
    }
}
