//! Where lines go, and how many told of damage.

use std::io::{self, BufWriter, Write};

use super::Depth;
use super::damage::Damage;
use super::item::Item;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For programs.
    Json,
    /// For people.
    Text,
}

/// Takes lines. Damage is held back until the file it is in was read to its end: only then it is known whether it still
/// was the same file.
pub struct Output<W: Write> {
    writer: BufWriter<W>,
    format: Format,
    depth: Depth,
    files: u64,
    file: String,
    is_named: bool,
    held: Vec<Damage>,
    damaged: u64,
    line: String,
}

impl<W: Write> Output<W> {
    /// Lines to `writer`.
    pub fn new(writer: W, format: Format, depth: Depth) -> Self {
        Self {
            writer: BufWriter::new(writer),
            format,
            depth,
            files: 0,
            file: String::new(),
            is_named: false,
            held: Vec::new(),
            damaged: 0,
            line: String::new(),
        }
    }

    /// How many ranges are damaged.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// What follows is of the file with this name.
    pub fn begin(&mut self, file: &str) {
        self.files += 1;
        self.back_to(file);
    }

    /// What follows is of a file that was begun before.
    pub fn back_to(&mut self, file: &str) {
        if self.file != file {
            file.clone_into(&mut self.file);
            self.is_named = false;
        }
    }

    /// A line about what is there. Not printed if only damage is asked for.
    pub fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        if self.depth == Depth::Verify { Ok(()) } else { self.write(item) }
    }

    /// A line that is printed in any case.
    pub fn summary(&mut self, item: &Item<'_>) -> io::Result<()> {
        self.write(item)
    }

    /// Something is wrong.
    pub fn damage(&mut self, damage: Damage) {
        self.held.push(damage);
    }

    /// Whether anything is wrong with this file so far.
    pub fn holds_damage(&self) -> bool {
        !self.held.is_empty()
    }

    /// Prints what was wrong.
    pub fn report(&mut self) -> io::Result<()> {
        for damage in std::mem::take(&mut self.held) {
            self.damaged += 1;
            self.write(&damage.item())?;
        }
        Ok(())
    }

    /// Forgets what was wrong.
    pub fn forget(&mut self) {
        self.held.clear();
    }

    /// Says how much was wrong with how many files, if that was asked for, and writes out what is buffered.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.depth == Depth::Verify {
            let item = Item::new("verified", 0).with("files", self.files);
            let item = item.with("damaged_ranges", self.damaged);
            self.is_named = true;
            self.file.clear();
            self.write(&item)?;
        }
        self.writer.flush()
    }

    fn write(&mut self, item: &Item<'_>) -> io::Result<()> {
        self.line.clear();
        match self.format {
            Format::Json => item.json(&self.file, &mut self.line),
            Format::Text => {
                if !self.is_named {
                    self.is_named = true;
                    writeln!(self.writer, "{}", self.file)?;
                }
                item.text(&mut self.line);
            }
        }
        self.line.push('\n');
        self.writer.write_all(self.line.as_bytes())
    }
}
