use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::demo::ledger::Ledger;

/// What a display wrote.
#[derive(Clone, Default)]
struct Screen(Rc<RefCell<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }

    /// What a terminal shows that understands the two sequences a block needs.
    fn shown(&self) -> String {
        let mut lines: Vec<String> = vec![String::new()];
        let text = self.text();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("\x1b[") {
                let (count, after) = after.split_once('A').unwrap();
                let kept = lines.len() - count.parse::<usize>().unwrap();
                // The cursor stands at the start of a line, and all from there on is erased.
                assert_eq!(lines.pop().unwrap(), "");
                lines.truncate(kept - 1);
                lines.push(String::new());
                rest = after.strip_prefix("\x1b[J").unwrap();
            } else {
                let end = rest.find(['\n', '\x1b']).unwrap_or(rest.len());
                lines.last_mut().unwrap().push_str(&rest[..end]);
                rest = &rest[end..];
                if let Some(after) = rest.strip_prefix('\n') {
                    lines.push(String::new());
                    rest = after;
                }
            }
        }
        lines.join("\n")
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn display(style: Style) -> (Display, Screen) {
    let screen = Screen::default();
    let output = Box::new(screen.clone());
    (Display { output, style, drawn: 0, last_line: None, rate: Rate::default() }, screen)
}

fn at(ms: u64, published: u64) -> Snapshot {
    Snapshot {
        elapsed: Duration::from_millis(ms),
        published,
        acknowledged: published,
        spooled: 600,
        spooled_most: 1_200,
        delivered: 0,
        uplink: UplinkState::Cut,
    }
}

#[test]
fn a_block_takes_the_place_of_the_one_before() {
    let (mut display, screen) = display(Style::Block);
    display.announce(Duration::ZERO, "begins");
    display.show(&at(100, 1_000));
    display.show(&at(1_100, 21_340));
    let expected = "  0.0 s  begins
  1.1 s  uplink CUT
         published                 21,340   20,340 readings/s
         acknowledged              21,340
         on the gateway's disk        600   ▇▇▇▇▇▇▇▇▇▇▇▇
         in the log                     0
";
    assert_eq!(screen.shown(), expected);
    display.announce(Duration::from_secs(2), "goes on");
    assert_eq!(screen.shown(), "  0.0 s  begins\n  2.0 s  goes on\n");
}

#[test]
fn without_a_terminal_there_are_few_lines_and_no_sequences() {
    let (mut display, screen) = display(Style::Lines);
    display.announce(Duration::ZERO, "begins");
    for ms in (0..6_000).step_by(100) {
        display.show(&at(ms, ms));
    }
    display.conclude(50, &finding(0));
    let text = screen.text();
    assert!(!text.contains('\x1b'), "{text}");
    assert!(text.contains("\n  2.0 s  2,000 published, 2,000 acknowledged, 600 on the gateway's disk, 0 in the log; 1,000 readings/s; uplink cut\n"), "{text}");
    assert_eq!(text.matches("; uplink cut\n").count(), 2, "{text}");
    assert!(
        text.ends_with(
            "✔ 50 devices, 21,340 readings published, 21,340 in the log, 0 missing, 0 duplicates\n"
        ),
        "{text}"
    );
}

fn finding(missing: u64) -> Finding {
    let ledger = Ledger {
        published: 21_340,
        acknowledged: 21_340,
        spooled: 9_000,
        in_log: 21_340 - missing,
        duplicates: 0,
        missing,
    };
    Finding { ledger, unknown: 0, disordered: 0 }
}

#[test]
fn a_failure_says_what_is_wrong() {
    let (mut display, screen) = display(Style::Block);
    display.conclude(50, &finding(3));
    let text = screen.text();
    assert!(text.contains("3 published readings are missing in the log\n"), "{text}");
    assert!(text.contains("\n✘ 50 devices, "), "{text}");
}

#[test]
fn colour_is_for_terminals_whose_users_have_not_declined() {
    for (is_terminal, term, no_color, expected) in [
        (true, Some("xterm"), None, Style::ColouredBlock),
        (true, Some("xterm"), Some(""), Style::ColouredBlock),
        (true, Some("xterm"), Some("1"), Style::Block),
        (true, Some("dumb"), None, Style::Lines),
        (true, None, None, Style::Lines),
        (false, Some("xterm"), None, Style::Lines),
    ] {
        let style = Style::of(is_terminal, term.map(OsStr::new), no_color.map(OsStr::new));
        assert_eq!(style, expected, "{is_terminal} {term:?} {no_color:?}");
    }
    assert_eq!(Style::ColouredBlock.paint(Colour::Red, "x"), "\x1b[31mx\x1b[0m");
    assert_eq!(Style::Block.paint(Colour::Red, "x"), "x");
}

#[test]
fn thousands_are_set_apart() {
    for (number, expected) in
        [(0, "0"), (999, "999"), (1_000, "1,000"), (123_456, "123,456"), (1_234_567, "1,234,567")]
    {
        assert_eq!(grouped(number), expected);
    }
}
