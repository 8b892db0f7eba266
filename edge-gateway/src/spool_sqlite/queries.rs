//! The spool's statements.

use std::collections::BTreeMap;

use bytes::Bytes;
use gateway_core::dedupe::QUEUES_PER_DEVICE;
use gateway_core::ledger::Ledger;
use gateway_core::spool::RowNo;
use gateway_core::spool::segment::Segment;
use gateway_core::spool::store::{Recovered, SpoolStore, StoreError};
use gateway_core::uplink::window::{Batch, BatchNo, Stream};
use rusqlite::{OptionalExtension, Row, params};
use wire::ids::{Lane, Partition, ProducerId, QueueId, SpoolId, Tag, TopicId};
use wire::seq::{DeviceSeq, StreamEpoch, StreamSeq};
use wire::uplink::{StreamKey, StreamState};

use super::{COMMIT_OVERHEAD_BYTES, PAGE_BYTES, SqliteStore, store_error};

type Result<T> = std::result::Result<T, StoreError>;

impl SqliteStore {
    fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<()> {
        let run = |sql| self.connection.prepare_cached(sql)?.execute(params);
        run(sql).map(drop).map_err(|error| store_error(&error))
    }

    fn put_counter(&self, name: &str, value: u64) -> Result<()> {
        self.run("INSERT OR REPLACE INTO counter VALUES (?1, ?2)", (name, value.cast_signed()))
    }

    fn pragma(&self, sql: &str) -> Result<u64> {
        let value: i64 = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|error| store_error(&error))?;
        Ok(value.cast_unsigned())
    }

    fn recover_all(&self) -> rusqlite::Result<Recovered> {
        let connection = &self.connection;
        let spool = connection.query_row("SELECT spool FROM identity", [], |row| row.get(0))?;
        let mut counters = BTreeMap::new();
        let mut statement = connection.prepare("SELECT name, value FROM counter")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            counters.insert(row.get::<_, String>(0)?, row.get::<_, i64>(1)?.cast_unsigned());
        }
        let counter = |name: &str| counters.get(name).copied();
        let assigned = |lane: Lane| RowNo(counter(assigned_name(lane)).unwrap_or(RowNo::FIRST.0));
        let ledger = Ledger {
            received: counter("received").unwrap_or(0),
            delivered: counter("delivered").unwrap_or(0),
            deduplicated: counter("deduplicated").unwrap_or(0),
            dropped_full: counter("dropped_full").unwrap_or(0),
            lost_by_devices: counter("lost_by_devices").unwrap_or(0),
        };
        let window = connection
            .prepare("SELECT * FROM inflight ORDER BY number")?
            .query_map([], read_batch)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let streams = connection
            .prepare("SELECT pid, topic, partition, lane, epoch, last, tag FROM stream")?
            .query_map([], read_stream)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let waiting: i64 = connection.query_row(
            "SELECT coalesce(sum(rows), 0) FROM segment_live WHERE first_row >= ?1",
            [assigned(Lane::Live).0.cast_signed()],
            |row| row.get(0),
        )?;
        let live = window.iter().filter(|batch| batch.lane == Lane::Live);
        let in_window: u64 = live.map(|batch| u64::from(batch.count)).sum();
        Ok(Recovered {
            spool: SpoolId(spool),
            next_row: RowNo(counter("next_row").unwrap_or(RowNo::FIRST.0)),
            assigned: Lane::ALL.into_iter().map(|lane| (lane, assigned(lane))).collect(),
            streams,
            next_batch: BatchNo(counter("next_batch").unwrap_or(0)),
            window,
            ledger,
            spooled: waiting.cast_unsigned() + in_window,
        })
    }

    fn read_segments(
        &self,
        lane: Lane,
        from: RowNo,
        bytes_max: usize,
        rows_max: u32,
    ) -> rusqlite::Result<Vec<Segment>> {
        let mut statement = self.connection.prepare_cached(match lane {
            Lane::Control => {
                "SELECT first_row, rows, crc, length(data), data FROM segment_control
                 WHERE first_row >= ?1 ORDER BY first_row"
            }
            Lane::Live => {
                "SELECT first_row, rows, crc, length(data), data FROM segment_live
                 WHERE first_row >= ?1 ORDER BY first_row"
            }
        })?;
        let mut rows = statement.query([from.0.cast_signed()])?;
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let (mut bytes, mut count, mut found) = (0_i64, 0_u32, Vec::new());
        while let Some(row) = rows.next()? {
            bytes = bytes.saturating_add(row.get(3)?);
            count = count.saturating_add(row.get(1)?);
            if !found.is_empty() && (bytes > bytes_max || count > rows_max) {
                break;
            }
            found.push(Segment {
                first: RowNo(row.get::<_, i64>(0)?.cast_unsigned()),
                lane,
                rows: row.get(1)?,
                crc: row.get(2)?,
                data: Bytes::from(row.get::<_, Vec<u8>>(4)?),
            });
        }
        Ok(found)
    }

    fn put_queue(&self, device: &[u8], queue: QueueId, last: DeviceSeq) -> rusqlite::Result<()> {
        let (queue, last) = (queue.0.cast_signed(), last.0.cast_signed());
        let known = self
            .connection
            .prepare_cached("UPDATE device SET last = ?3 WHERE device = ?1 AND queue = ?2")?
            .execute((device, queue, last))?;
        if known > 0 {
            return Ok(());
        }
        self.connection
            .prepare_cached(
                "INSERT INTO device SELECT ?1, ?2, ?3, coalesce(max(made), 0) + 1
                 FROM device WHERE device = ?1",
            )?
            .execute((device, queue, last))?;
        self.connection
            .prepare_cached(
                "DELETE FROM device WHERE device = ?1 AND made <=
                 (SELECT max(made) FROM device WHERE device = ?1) - ?2",
            )?
            .execute((device, QUEUES_PER_DEVICE as i64))?;
        Ok(())
    }
}

impl SpoolStore for SqliteStore {
    fn begin(&mut self) -> Result<()> {
        self.run("BEGIN IMMEDIATE", [])
    }

    fn commit(&mut self) -> Result<()> {
        self.since_checkpoint += COMMIT_OVERHEAD_BYTES;
        self.run("COMMIT", [])
    }

    fn rollback(&mut self) {
        // Perhaps for want of room: what a checkpoint copies out of the WAL makes some.
        self.since_checkpoint = u64::MAX / 2;
        if !self.connection.is_autocommit() {
            // A rollback that fails leaves the transaction open, and the next BEGIN reports that.
            let _ = self.run("ROLLBACK", []);
        }
    }

    fn recover(&mut self) -> Result<Recovered> {
        self.recover_all().map_err(|error| store_error(&error))
    }

    fn device_last(&mut self, device: &[u8], queue: QueueId) -> Result<Option<DeviceSeq>> {
        self.connection
            .prepare_cached("SELECT last FROM device WHERE device = ?1 AND queue = ?2")
            .and_then(|mut statement| {
                let last = |row: &Row<'_>| row.get::<_, i64>(0);
                statement.query_row((device, queue.0.cast_signed()), last).optional()
            })
            .map(|last| last.map(|last| DeviceSeq(last.cast_unsigned())))
            .map_err(|error| store_error(&error))
    }

    fn put_device_last(&mut self, device: &[u8], queue: QueueId, last: DeviceSeq) -> Result<()> {
        self.put_queue(device, queue, last).map_err(|error| store_error(&error))
    }

    fn put_segment(&mut self, segment: &Segment) -> Result<()> {
        self.since_checkpoint += segment.data.len() as u64 + PAGE_BYTES;
        self.run(
            match segment.lane {
                Lane::Control => "INSERT INTO segment_control VALUES (?1, ?2, ?3, ?4)",
                Lane::Live => "INSERT INTO segment_live VALUES (?1, ?2, ?3, ?4)",
            },
            (segment.first.0.cast_signed(), segment.rows, segment.crc, &segment.data[..]),
        )?;
        self.put_counter("next_row", segment.end().0)
    }

    fn segments(
        &mut self,
        lane: Lane,
        from: RowNo,
        bytes_max: usize,
        rows_max: u32,
    ) -> Result<Vec<Segment>> {
        self.read_segments(lane, from, bytes_max, rows_max).map_err(|error| store_error(&error))
    }

    fn delete_segments(&mut self, lane: Lane, below: RowNo) -> Result<()> {
        self.run(
            match lane {
                Lane::Control => {
                    "DELETE FROM segment_control WHERE first_row < ?1 AND first_row + rows <= ?1"
                }
                Lane::Live => {
                    "DELETE FROM segment_live WHERE first_row < ?1 AND first_row + rows <= ?1"
                }
            },
            [below.0.cast_signed()],
        )
    }

    fn put_assigned(&mut self, lane: Lane, row: RowNo) -> Result<()> {
        self.put_counter(assigned_name(lane), row.0)
    }

    fn put_batch(&mut self, batch: &Batch) -> Result<()> {
        self.run(
            "INSERT INTO inflight VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            params![
                batch.number.0.cast_signed(),
                batch.lane as u8,
                batch.stream.pid.0,
                batch.stream.topic.0,
                batch.stream.partition.0,
                batch.partitions,
                batch.epoch.0,
                batch.base.get(),
                batch.count,
                batch.prev_tag.0.cast_signed(),
                batch.tag.0.cast_signed(),
                batch.from.0.cast_signed(),
                batch.to.0.cast_signed(),
                batch.backfill,
            ],
        )?;
        self.put_counter("next_batch", batch.number.0 + 1)
    }

    fn delete_batch(&mut self, number: BatchNo) -> Result<()> {
        self.run("DELETE FROM inflight WHERE number = ?1", [number.0.cast_signed()])
    }

    fn put_stream(&mut self, stream: &Stream) -> Result<()> {
        self.run(
            "INSERT OR REPLACE INTO stream VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                stream.key.pid.0,
                stream.key.topic.0,
                stream.key.partition.0,
                stream.lane as u8,
                stream.acked.epoch.0,
                stream.acked.last.map(StreamSeq::get),
                stream.acked.tag.0.cast_signed(),
            ],
        )
    }

    fn put_ledger(&mut self, ledger: &Ledger) -> Result<()> {
        let Ledger { received, delivered, deduplicated, dropped_full, lost_by_devices } = *ledger;
        self.put_counter("received", received)?;
        self.put_counter("delivered", delivered)?;
        self.put_counter("deduplicated", deduplicated)?;
        self.put_counter("dropped_full", dropped_full)?;
        self.put_counter("lost_by_devices", lost_by_devices)
    }

    fn used_bytes(&mut self) -> Result<u64> {
        let pages = self.pragma("PRAGMA page_count")?;
        let free = self.pragma("PRAGMA freelist_count")?;
        Ok(pages.saturating_sub(free) * PAGE_BYTES)
    }
}

fn assigned_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Control => "assigned_control",
        Lane::Live => "assigned_live",
    }
}

fn read_batch(row: &Row<'_>) -> rusqlite::Result<Batch> {
    Ok(Batch {
        number: BatchNo(row.get::<_, i64>("number")?.cast_unsigned()),
        lane: read_lane(row)?,
        stream: read_key(row)?,
        partitions: row.get("partitions")?,
        epoch: StreamEpoch(row.get("epoch")?),
        base: read_sequence(row, "base")?.unwrap_or(StreamSeq::ZERO),
        count: row.get("count")?,
        prev_tag: Tag(row.get::<_, i64>("prev_tag")?.cast_unsigned()),
        tag: Tag(row.get::<_, i64>("tag")?.cast_unsigned()),
        from: RowNo(row.get::<_, i64>("from_row")?.cast_unsigned()),
        to: RowNo(row.get::<_, i64>("to_row")?.cast_unsigned()),
        backfill: row.get("backfill")?,
    })
}

fn read_stream(row: &Row<'_>) -> rusqlite::Result<Stream> {
    let acked = StreamState {
        epoch: StreamEpoch(row.get("epoch")?),
        last: read_sequence(row, "last")?,
        tag: Tag(row.get::<_, i64>("tag")?.cast_unsigned()),
    };
    Ok(Stream { lane: read_lane(row)?, key: read_key(row)?, acked })
}

fn read_key(row: &Row<'_>) -> rusqlite::Result<StreamKey> {
    Ok(StreamKey {
        pid: ProducerId(row.get("pid")?),
        topic: TopicId(row.get("topic")?),
        partition: Partition(row.get("partition")?),
    })
}

fn read_lane(row: &Row<'_>) -> rusqlite::Result<Lane> {
    let number: u8 = row.get("lane")?;
    Lane::from_number(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, number.into()))
}

fn read_sequence(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<StreamSeq>> {
    let Some(number) = row.get::<_, Option<i32>>(column)? else {
        return Ok(None);
    };
    let out_of_range = rusqlite::Error::IntegralValueOutOfRange(0, number.into());
    StreamSeq::new(number).map(Some).ok_or(out_of_range)
}
