//! A device drawn in a terminal.

mod history;
mod panel;

use std::io;
use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use futures::StreamExt as _;
use ratatui::DefaultTerminal;

pub use panel::Panel;

use crate::device::Line;
use crate::life::{Moment, View, Wish};
use crate::sensor::Key;

/// Ten moments a second: a bar that follows a key at once, and no work to speak of.
const FRAME: Duration = Duration::from_millis(100);

/// Moments that come faster wait for the next: a thousand readings that are acknowledged together
/// are drawn once.
const SHORTEST: Duration = Duration::from_millis(30);

/// The terminal, which is given back as it was when this is dropped.
pub struct Screen {
    terminal: DefaultTerminal,
    panel: Panel,
    events: EventStream,
    drawn: Option<Instant>,
}

impl Screen {
    /// Takes the terminal; also a panic gives it back.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(panel: Panel) -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        Ok(Self { terminal, panel, events: EventStream::new(), drawn: None })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl View for Screen {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        self.panel.insert_line(line);
        Ok(())
    }

    fn moment(&mut self, moment: &Moment<'_>) -> io::Result<()> {
        self.panel.insert_light(moment.device.light(), moment.now);
        if self.drawn.is_some_and(|drawn| moment.now < drawn + SHORTEST) {
            return Ok(());
        }
        self.drawn = Some(moment.now);
        self.terminal.draw(|frame| self.panel.draw(frame, moment))?;
        Ok(())
    }

    fn frame(&self) -> Option<Duration> {
        Some(FRAME)
    }

    async fn wish(&mut self) -> io::Result<Wish> {
        loop {
            let Some(event) = self.events.next().await else { return Ok(Wish::End) };
            match event? {
                Event::Key(key) if key.kind == KeyEventKind::Release => {}
                Event::Key(key) => match key.code {
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                        return Ok(Wish::End);
                    }
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(Wish::End),
                    KeyCode::Up => return Ok(Wish::Key(Key::Up)),
                    KeyCode::Down => return Ok(Wish::Key(Key::Down)),
                    KeyCode::Char(letter) => return Ok(Wish::Key(Key::Letter(letter))),
                    _ => {}
                },
                Event::Resize(..) => return Ok(Wish::Redraw),
                _ => {}
            }
        }
    }
}
