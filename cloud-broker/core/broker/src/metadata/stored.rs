//! The stored form of the image: `ctl/cluster` (docs/formats/cluster.md).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wire::ids::TopicId;
use wire::record_batch::crc32c;

use super::image::DELETED_TOPICS_MAX;
use super::{Image, TOPICS_MAX, Topic};
use crate::topic_config::TopicConfigs;

const MAGIC: &[u8; 4] = b"CVM1";
const BODY: usize = 10;

/// What this release writes.
const FORMAT: u16 = 2;

/// The format without configs, deleted topics and producer ids.
const FORMAT_1: u16 = 1;

/// Bytes of everything but topics, at most: the head, the cluster's id, two numbers and two counts.
pub(super) const BYTES_WITHOUT_TOPICS_MAX: usize = BODY + 16 + 5 + 10 + 3 + 3;

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
    next_pid: u64,
    #[serde(borrow)]
    topics: Vec<TopicRow<'a>>,
    deleted: Vec<TopicId>,
}

#[derive(Serialize, Deserialize)]
struct TopicRow<'a> {
    #[serde(borrow)]
    name: &'a str,
    id: TopicId,
    no: u32,
    partitions: u32,
    #[serde(borrow)]
    configs: Vec<(&'a str, &'a str)>,
}

#[derive(Deserialize)]
struct Body1<'a> {
    cluster: [u8; 16],
    next_no: u32,
    #[serde(borrow)]
    topics: Vec<(&'a str, TopicId, u32, u32)>,
}

pub(super) fn encode(image: &Image) -> Vec<u8> {
    let topics = image.topics.values().map(|topic| TopicRow {
        name: &topic.name,
        id: topic.id,
        no: topic.no,
        partitions: topic.partitions,
        configs: topic.configs.iter().collect(),
    });
    let body = Body {
        cluster: image.cluster,
        next_no: image.next_no,
        next_pid: image.next_pid,
        topics: topics.collect(),
        deleted: image.deleted.iter().copied().collect(),
    };
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
    let body: Option<Body<'_>> = match format {
        FORMAT => postcard::from_bytes(rest).ok(),
        FORMAT_1 => postcard::from_bytes(rest).ok().map(|body: Body1<'_>| body.upgraded()),
        _ => None,
    };
    let body = body.ok_or(StoredError::Damaged)?;
    if body.topics.len() > TOPICS_MAX || body.deleted.len() > DELETED_TOPICS_MAX {
        return Err(StoredError::Damaged);
    }
    let mut image = Image::empty(version, body.cluster);
    image.next_no = body.next_no;
    image.next_pid = body.next_pid;
    image.deleted = VecDeque::from(body.deleted);
    for row in body.topics {
        let own = |text: &str| text.to_owned();
        let set: BTreeMap<_, _> =
            row.configs.into_iter().map(|(name, value)| (own(name), own(value))).collect();
        // What this release needs of the coordinator's topic, earlier ones did not store.
        let mut configs = TopicConfigs::stored(set);
        configs.complete(row.name);
        image.insert(Topic {
            name: own(row.name),
            id: row.id,
            no: row.no,
            partitions: row.partitions,
            configs,
        });
    }
    Ok(image)
}

impl<'a> Body1<'a> {
    fn upgraded(self) -> Body<'a> {
        let topics = self.topics.into_iter();
        Body {
            cluster: self.cluster,
            next_no: self.next_no,
            next_pid: 0,
            topics: topics
                .map(|(name, id, no, partitions)| TopicRow {
                    name,
                    id,
                    no,
                    partitions,
                    configs: Vec::new(),
                })
                .collect(),
            deleted: Vec::new(),
        }
    }
}
