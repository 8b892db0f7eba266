//! Writing as many units as it takes: those that hold one partition each, and one that many share.

use wire::record_batch::RecordBatchHeader;

use super::builder::{Built, Origin, UnitBuilder, WriteFailed};
use super::{UNIT_BODY_BYTES_MAX, UNIT_ENTRIES_MAX, UnitKind};
use crate::ids::UnitNo;
use crate::job::{Made, Pace};
use crate::slot::RunEntry;
use crate::store::{UnitStore, UnitWrite};

/// Where a partition goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// Units that hold nothing else.
    Own(UnitKind),
    /// One that many partitions share.
    Shared,
}

/// Units that are being written. Partitions come one after the other, in the order of a unit's table.
#[derive(Debug)]
pub(crate) struct UnitsOut<W> {
    next_unit: UnitNo,
    unit_bytes: u64,
    home: Home,
    own: Option<UnitBuilder<W>>,
    shared: Option<UnitBuilder<W>>,
    made: Made,
}

impl<W: UnitWrite> UnitsOut<W> {
    /// Units numbered from `first_unit` on, each ended once its body is `unit_bytes` long: a shared one by the partition that
    /// takes it there, one of a single partition by the batch.
    pub(crate) fn new(first_unit: UnitNo, unit_bytes: u64) -> Self {
        Self {
            next_unit: first_unit,
            unit_bytes: unit_bytes.clamp(1, UNIT_BODY_BYTES_MAX),
            home: Home::Shared,
            own: None,
            shared: None,
            made: Made::default(),
        }
    }

    /// Begins the next partition.
    pub(crate) fn begin_partition(
        &mut self,
        home: Home,
        pace: &mut dyn Pace,
    ) -> Result<(), WriteFailed<W::Error>> {
        end(&mut self.own, &mut self.made, pace)?;
        if is_full(self.shared.as_ref(), self.unit_bytes) {
            end(&mut self.shared, &mut self.made, pace)?;
        }
        self.home = home;
        Ok(())
    }

    /// Adds a batch whose header was parsed from `bytes`.
    pub(crate) fn push_batch<S: UnitStore<Writer = W, Error = W::Error>>(
        &mut self,
        store: &mut S,
        pace: &mut dyn Pace,
        origin: &Origin,
        batch: (&RecordBatchHeader, &[u8]),
    ) -> Result<(), WriteFailed<W::Error>> {
        self.unit(store, pace)?.push_batch(origin, batch, pace)
    }

    /// Adds a run as it was found: see [`UnitBuilder::push_damaged`].
    pub(crate) fn push_damaged<S: UnitStore<Writer = W, Error = W::Error>>(
        &mut self,
        store: &mut S,
        pace: &mut dyn Pace,
        origin: &Origin,
        run: (&RunEntry, &[u8]),
    ) -> Result<(), WriteFailed<W::Error>> {
        self.unit(store, pace)?.push_damaged(origin, run, pace)
    }

    /// Ends all units.
    pub(crate) fn finish(&mut self, pace: &mut dyn Pace) -> Result<Made, WriteFailed<W::Error>> {
        end(&mut self.own, &mut self.made, pace)?;
        end(&mut self.shared, &mut self.made, pace)?;
        Ok(std::mem::take(&mut self.made))
    }

    /// Gives up: nothing is left behind, unless the store fails too; the next start removes that.
    pub(crate) fn abandon<S: UnitStore<Writer = W>>(&mut self, store: &mut S) {
        self.own = None;
        self.shared = None;
        for unit in self.made.units.drain(..) {
            let _ = store.free(unit.id);
        }
        self.made.extents.clear();
    }

    /// The number of the next unit.
    pub(crate) fn next_unit(&self) -> UnitNo {
        self.next_unit
    }

    /// The unit that the present partition goes to.
    fn unit<S: UnitStore<Writer = W, Error = W::Error>>(
        &mut self,
        store: &mut S,
        pace: &mut dyn Pace,
    ) -> Result<&mut UnitBuilder<W>, WriteFailed<W::Error>> {
        let (place, kind, bytes_max) = match self.home {
            Home::Own(kind) => (&mut self.own, kind, self.unit_bytes),
            Home::Shared => (&mut self.shared, UnitKind::Evacuated, UNIT_BODY_BYTES_MAX),
        };
        if is_full(place.as_ref(), bytes_max) {
            end(place, &mut self.made, pace)?;
        }
        match place {
            Some(unit) => Ok(unit),
            None => {
                let unit_no = self.next_unit;
                let writer = store.create(unit_no).map_err(WriteFailed::Store)?;
                self.next_unit = UnitNo(unit_no.0.saturating_add(1));
                Ok(place.insert(UnitBuilder::new(unit_no, kind, writer)))
            }
        }
    }
}

fn is_full<W: UnitWrite>(unit: Option<&UnitBuilder<W>>, bytes_max: u64) -> bool {
    unit.is_some_and(|unit| unit.body_bytes() >= bytes_max || unit.entries() >= UNIT_ENTRIES_MAX)
}

fn end<W: UnitWrite>(
    unit: &mut Option<UnitBuilder<W>>,
    made: &mut Made,
    pace: &mut dyn Pace,
) -> Result<(), WriteFailed<W::Error>> {
    if let Some(unit) = unit.take() {
        let Built { meta, extents } = unit.finish(pace)?;
        made.units.push(meta);
        made.extents.extend(extents);
    }
    Ok(())
}
