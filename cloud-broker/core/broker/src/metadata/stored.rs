//! The stored form of the image: `ctl/cluster`.
//!
//! | offset | field |
//! |---|---|
//! | 0 | magic `CVM1` |
//! | 4 | format version u16, little-endian |
//! | 6 | CRC-32C u32, little-endian, over what follows |
//! | 10 | postcard: cluster id [16], next topic number u32, topics (name, id [16], number u32, partitions u32) |

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wire::ids::TopicId;
use wire::record_batch::crc32c;

use super::{Image, TOPICS_MAX, Topic};

const MAGIC: &[u8; 4] = b"CVM1";
const FORMAT: u16 = 1;
const BODY: usize = 10;

/// Why stored metadata is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StoredError {
    /// The bytes were changed or cut: restore them from a copy.
    #[error("the stored metadata is damaged")]
    Damaged,
    /// Written by a newer release: start that one.
    #[error("the stored metadata has format {0}; this release reads up to {FORMAT}")]
    Newer(u16),
}

#[derive(Serialize, Deserialize)]
struct Body<'a> {
    cluster: [u8; 16],
    next_no: u32,
    #[serde(borrow)]
    topics: Vec<TopicRow<'a>>,
}

#[derive(Serialize, Deserialize)]
struct TopicRow<'a> {
    #[serde(borrow)]
    name: &'a str,
    id: TopicId,
    no: u32,
    partitions: u32,
}

pub(super) fn encode(image: &Image) -> Vec<u8> {
    let topics = image.topics.values().map(|topic| TopicRow {
        name: &topic.name,
        id: topic.id,
        no: topic.no,
        partitions: topic.partitions,
    });
    let body = Body { cluster: image.cluster, next_no: image.next_no, topics: topics.collect() };
    let mut out = postcard::to_extend(&body, vec![0; BODY])
        .expect("strings and numbers always have a postcard form, and a Vec grows");
    let crc = crc32c(&out[BODY..]);
    out[..4].copy_from_slice(MAGIC);
    out[4..6].copy_from_slice(&FORMAT.to_le_bytes());
    out[6..BODY].copy_from_slice(&crc.to_le_bytes());
    out
}

pub(super) fn decode(version: u64, bytes: &[u8]) -> Result<Image, StoredError> {
    let (head, rest) = bytes.split_first_chunk::<BODY>().ok_or(StoredError::Damaged)?;
    let format = u16::from_le_bytes([head[4], head[5]]);
    if !head.starts_with(MAGIC) {
        return Err(StoredError::Damaged);
    }
    if format > FORMAT {
        return Err(StoredError::Newer(format));
    }
    if u32::from_le_bytes([head[6], head[7], head[8], head[9]]) != crc32c(rest) {
        return Err(StoredError::Damaged);
    }
    let body: Body<'_> = postcard::from_bytes(rest).map_err(|_| StoredError::Damaged)?;
    if body.topics.len() > TOPICS_MAX {
        return Err(StoredError::Damaged);
    }
    let mut image = Image::empty(version, body.cluster);
    image.next_no = body.next_no;
    for row in body.topics {
        image.insert(Topic {
            name: row.name.to_owned(),
            id: row.id,
            no: row.no,
            partitions: row.partitions,
        });
    }
    Ok(image)
}
