//! Where in the WAL the next slot goes.

use bytes::Bytes;
use wire::ids::Incarnation;

use super::Room;
use crate::ids::{FileNo, SlotNo};
use crate::slot::SLOT_ALIGN;
use crate::wal_file_header::{WAL_FILE_HEADER_BYTES, WalFileHeader};

/// A file to make before a slot can be written: reserve its bytes, write the header, sync both the file and its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Its number; a file of this number that exists is dead and may be replaced.
    pub file_no: FileNo,
    /// Its bytes, header included.
    pub size: u32,
    /// Its first 4 KiB.
    pub header: Bytes,
}

/// The place behind the last slot.
#[derive(Debug)]
pub(super) struct WritePlace {
    incarnation: Incarnation,
    file_bytes: u32,
    next_file: FileNo,
    open: Option<OpenFile>,
    room: Option<Room>,
}

#[derive(Debug)]
struct OpenFile {
    file_no: FileNo,
    pos: u32,
    size: u32,
}

const HEADER: u32 = WAL_FILE_HEADER_BYTES as u32;
const ALIGN: u32 = SLOT_ALIGN as u32;

/// A slot's place.
#[derive(Debug)]
pub(super) struct Taken {
    /// The file to make first, if the slot begins one.
    pub(super) new_file: Option<NewFile>,
    pub(super) file_no: FileNo,
    /// The file's size.
    pub(super) file_size: u64,
    /// First byte in the file.
    pub(super) pos: u32,
}

impl WritePlace {
    pub(super) fn new(incarnation: Incarnation, file_bytes: u32, next_file: FileNo) -> Self {
        Self {
            incarnation,
            file_bytes: file_bytes - file_bytes % ALIGN,
            next_file,
            open: None,
            room: None,
        }
    }

    pub(super) fn set_room(&mut self, room: Room) {
        self.room = Some(room);
    }

    pub(super) fn room(&self) -> Option<Room> {
        self.room
    }

    /// Bytes that slots can take up in a new file.
    pub(super) fn payload(&self) -> usize {
        self.file_bytes.saturating_sub(HEADER).max(ALIGN) as usize
    }

    /// Bytes that slots can still take up in the open file.
    pub(super) fn left(&self) -> usize {
        self.open.as_ref().map_or(0, |open| (open.size - open.pos) as usize)
    }

    /// Whether slots still go to this file.
    pub(super) fn is_open(&self, file_no: FileNo) -> bool {
        self.open.as_ref().is_some_and(|open| open.file_no == file_no)
    }

    /// The open file gets no more slots.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Takes the place for a slot of `len` bytes with padding. A slot never spans files.
    pub(super) fn take(&mut self, slot_no: SlotNo, len: usize) -> Taken {
        let len = u32::try_from(len).expect("at most SLOT_BYTES_MAX");
        let mut new_file = None;
        let file = match self.open.take() {
            Some(file) if len <= file.size - file.pos => self.open.insert(file),
            Some(_) | None => {
                let size = self.file_bytes.max(HEADER + len);
                let file_no = self.next_file;
                self.next_file = file_no.next();
                if let Some(room) = &mut self.room {
                    room.ready_files = room.ready_files.saturating_sub(1);
                }
                let header = WalFileHeader {
                    incarnation: self.incarnation,
                    file_no,
                    first_slot: slot_no,
                    size: u64::from(size),
                };
                new_file = Some(NewFile {
                    file_no,
                    size,
                    header: Bytes::copy_from_slice(&header.encode()),
                });
                self.open.insert(OpenFile { file_no, pos: HEADER, size })
            }
        };
        let pos = file.pos;
        file.pos += len;
        Taken { new_file, file_no: file.file_no, file_size: u64::from(file.size), pos }
    }
}
