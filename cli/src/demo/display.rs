//! What a demonstration shows while it runs: on a terminal one block that is drawn again and again, else plain lines.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::ledger::Finding;

/// Without a terminal there is a line so often.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// What a rate is measured over.
const RATE_SPAN: Duration = Duration::from_secs(1);

/// Width of the bar of the spool, in characters.
const BAR_WIDTH: u64 = 24;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Since the devices began.
    pub elapsed: Duration,
    /// Readings that devices numbered.
    pub published: u64,
    /// Readings that the gateway acknowledged.
    pub acknowledged: u64,
    /// Readings on the gateway's disk that the log has not acknowledged.
    pub spooled: u64,
    /// The most of them so far.
    pub spooled_most: u64,
    /// Readings that the log acknowledged to the gateway.
    pub delivered: u64,
    /// The way from gateway to broker.
    pub uplink: UplinkState,
}

/// The way from gateway to broker, as the demonstration knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UplinkState {
    /// Readings flow.
    #[default]
    Connected,
    /// Every datagram is dropped.
    Cut,
    /// Not cut any more; the gateway has not come back yet.
    Reconnecting,
}

/// Writes to a terminal or a file.
pub struct Display {
    output: Box<dyn Write>,
    style: Style,
    /// Lines of the block on the screen.
    drawn: usize,
    /// When the last line was written.
    last_line: Option<Duration>,
    rate: Rate,
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A line now and then.
    Lines,
    /// A block, drawn again and again.
    Block,
    /// The same in colour.
    ColouredBlock,
}

impl Style {
    /// The style for an output: only terminals that can move their cursor get a block, and colour only where nobody has
    /// asked to have none (no-color.org).
    fn of(is_terminal: bool, term: Option<&OsStr>, no_color: Option<&OsStr>) -> Self {
        let is_dumb = term.is_none_or(|term| term.is_empty() || term == "dumb");
        let is_plain = no_color.is_some_and(|value| !value.is_empty());
        match (is_terminal && !is_dumb, is_plain) {
            (false, _) => Self::Lines,
            (true, true) => Self::Block,
            (true, false) => Self::ColouredBlock,
        }
    }

    fn paint(self, colour: Colour, text: &str) -> String {
        match self {
            Self::ColouredBlock => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
            Self::Block | Self::Lines => text.to_owned(),
        }
    }
}

/// Colours, as terminals number them.
#[derive(Debug, Clone, Copy)]
enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

impl Display {
    /// On standard output.
    pub fn on_stdout() -> Self {
        let output = io::stdout();
        let is_terminal = output.is_terminal();
        Self::new(Box::new(output), is_terminal)
    }

    /// On standard error, because standard output is for a machine.
    pub fn on_stderr() -> Self {
        let output = io::stderr();
        let is_terminal = output.is_terminal();
        Self::new(Box::new(output), is_terminal)
    }

    fn new(output: Box<dyn Write>, is_terminal: bool) -> Self {
        let (term, no_color) = (std::env::var_os("TERM"), std::env::var_os("NO_COLOR"));
        let style = Style::of(is_terminal, term.as_deref(), no_color.as_deref());
        Self { output, style, drawn: 0, last_line: None, rate: Rate::default() }
    }

    /// Says what happens from now on; stays on the screen.
    pub fn announce(&mut self, elapsed: Duration, what: &str) {
        let time = time(elapsed);
        let text = format!("{time}  {}\n", self.style.paint(Colour::Cyan, what));
        self.drawn = self.replace_block(&text);
        self.last_line = Some(elapsed);
    }

    /// Shows how it stands, if it is time to.
    pub fn show(&mut self, now: &Snapshot) {
        let rate = self.rate.of(now);
        match self.style {
            Style::Lines => {
                if self.last_line.is_some_and(|last| now.elapsed < last + LINE_INTERVAL) {
                    return;
                }
                self.last_line = Some(now.elapsed);
                self.write(&line(now, rate));
            }
            Style::Block | Style::ColouredBlock => {
                let block = block(now, rate, self.style);
                self.replace_block(&block);
                self.drawn = block.lines().count();
            }
        }
    }

    /// Shows the account and what it means.
    pub fn conclude(&mut self, devices: u32, finding: &Finding) {
        let complaints = finding.complaints();
        let (mark, colour) =
            if complaints.is_empty() { ("✔", Colour::Green) } else { ("✘", Colour::Red) };
        let mut text = table(finding);
        for complaint in &complaints {
            text.push_str(&self.style.paint(Colour::Red, complaint));
            text.push('\n');
        }
        let verdict = format!("{mark} {}", verdict(devices, finding));
        text.push_str(&self.style.paint(colour, &verdict));
        text.push('\n');
        self.drawn = self.replace_block(&text);
    }

    /// Writes `text` where the block was, which is then gone: no lines of it are on the screen.
    fn replace_block(&mut self, text: &str) -> usize {
        let erase = match self.drawn {
            0 => String::new(),
            // Up as many lines as were drawn, and everything from there on erased.
            lines => format!("\x1b[{lines}A\x1b[J"),
        };
        self.write(&format!("{erase}{text}"));
        0
    }

    fn write(&mut self, text: &str) {
        // Whoever closed the output does not want to see it; the exit code says how it went.
        let _ = self.output.write_all(text.as_bytes());
        let _ = self.output.flush();
    }
}

/// Readings a second over the last moments.
#[derive(Debug, Default)]
struct Rate {
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    fn of(&mut self, now: &Snapshot) -> u64 {
        self.samples.push_back((now.elapsed, now.published));
        // One sample stays that is as old as the span.
        while self.samples.get(1).is_some_and(|(at, _)| *at + RATE_SPAN <= now.elapsed) {
            self.samples.pop_front();
        }
        let Some((since, published)) = self.samples.front() else { return 0 };
        let ms = (now.elapsed - *since).as_millis().max(1);
        let count = u128::from(now.published.saturating_sub(*published));
        u64::try_from(count * 1_000 / ms).unwrap_or(u64::MAX)
    }
}

fn time(elapsed: Duration) -> String {
    format!("{:5.1} s", elapsed.as_secs_f32())
}

fn line(now: &Snapshot, rate: u64) -> String {
    let uplink = match now.uplink {
        UplinkState::Connected => "uplink connected",
        UplinkState::Cut => "uplink cut",
        UplinkState::Reconnecting => "uplink reconnecting",
    };
    format!(
        "{}  {} published, {} acknowledged, {} on the gateway's disk, {} in the log; {} readings/s; {uplink}\n",
        time(now.elapsed),
        grouped(now.published),
        grouped(now.acknowledged),
        grouped(now.spooled),
        grouped(now.delivered),
        grouped(rate),
    )
}

fn block(now: &Snapshot, rate: u64, style: Style) -> String {
    let uplink = match now.uplink {
        UplinkState::Connected => style.paint(Colour::Green, "connected"),
        UplinkState::Cut => style.paint(Colour::Red, "CUT"),
        UplinkState::Reconnecting => style.paint(Colour::Yellow, "reconnecting"),
    };
    let length = (now.spooled * BAR_WIDTH).div_ceil(now.spooled_most.max(1));
    let bar = "▇".repeat(usize::try_from(length).unwrap_or(0));
    let bar = style.paint(Colour::Yellow, &bar);
    let row = |name: &str, figure: u64| format!("         {name:<22}{:>10}", grouped(figure));
    let published = row("published", now.published);
    let acknowledged = row("acknowledged", now.acknowledged);
    let spooled = row("on the gateway's disk", now.spooled);
    let delivered = row("in the log", now.delivered);
    format!(
        "{}  uplink {uplink}\n{published}   {} readings/s\n{acknowledged}\n{spooled}   {bar}\n{delivered}\n",
        time(now.elapsed),
        grouped(rate),
    )
}

fn table(finding: &Finding) -> String {
    let ledger = &finding.ledger;
    let rows = [
        ("published", ledger.published, ""),
        ("acknowledged", ledger.acknowledged, ""),
        ("spooled", ledger.spooled, "   the most that waited on the gateway's disk at once"),
        ("in the log", ledger.in_log, ""),
        ("duplicates", ledger.duplicates, ""),
        ("missing", ledger.missing, ""),
    ];
    let rows =
        rows.map(|(name, figure, note)| format!("  {name:<14}{:>10}{note}\n", grouped(figure)));
    format!("\n{}\n", rows.concat())
}

/// The sentence at the end.
fn verdict(devices: u32, finding: &Finding) -> String {
    let ledger = &finding.ledger;
    let noun = if devices == 1 { "device" } else { "devices" };
    format!(
        "{devices} {noun}, {} readings published, {} in the log, {} missing, {} duplicates",
        grouped(ledger.published),
        grouped(ledger.in_log),
        grouped(ledger.missing),
        grouped(ledger.duplicates),
    )
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
