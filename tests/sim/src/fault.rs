//! What goes wrong in a run, and when: drawn from the seed before it begins.

use crate::rng::Rng;

/// Faults happen until this virtual time; then everything is healed.
pub(crate) const FAULTS_END_MS: u64 = 40_000;

/// Something goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The broker dies; what it wrote and did not sync survives in the page cache.
    BrokerKilled,
    /// The broker's machine loses power.
    BrokerPowerLost,
    /// The broker is asked to end: it makes everything durable, with a checkpoint, before it does.
    BrokerStops,
    /// The broker's next sync fails: the pages count as clean and are not on disk.
    BrokerSyncFails,
    /// Somebody sets the wall clock of a gateway, or of the broker.
    ClockStep {
        gateway: Option<usize>,
        by_ms: i64,
    },
    DeviceCut(usize),
    DeviceReboot(usize),
    /// It is started again as soon as a gateway has accepted it and it has sent something.
    DeviceRebootsOnceAccepted(usize),
    DeviceReflash(usize),
    DeviceRoams(usize),
    GatewayCrash(usize),
    /// Old frames of a gateway come to the broker once more.
    Ghost(usize),
    /// From now on all is well.
    Heal,
    /// A copy of a spool is started as a second gateway of the same name.
    SpoolCloned(usize),
    SpoolFull(usize),
    SpoolLost(usize),
    /// The copy of a spool that was made earlier is put back.
    SpoolRestored(usize),
    SpoolRoomy(usize),
    /// A copy of a spool is made.
    SpoolSaved(usize),
    UplinkCut(usize),
    UplinkDown(usize),
    UplinkUp(usize),
}

/// The size of a run and its faults.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) devices: usize,
    pub(crate) gateways: usize,
    /// Longest time between two readings of a device.
    pub(crate) sample_ms_max: u64,
    /// Bytes that the broker's log stages before it turns batches away.
    pub(crate) pending_bytes_max: usize,
    /// Bytes that the broker keeps of a partition; `None`: all of them.
    pub(crate) retention_bytes: Option<u64>,
    /// Longest time of a broker's sync.
    pub(crate) sync_ms_max: u64,
    /// Of 100 answers, how many come once more, late.
    pub(crate) late_answers: u64,
    pub(crate) faults: Vec<(u64, Fault)>,
}

/// A kind of fault: `of` draws one.
struct Kind {
    /// How many there are at most, in a run that has any.
    most: u64,
    of: fn(&mut Rng, &Hosts, u64, &mut Vec<(u64, Fault)>),
}

struct Hosts {
    devices: usize,
    gateways: usize,
}

/// Faults that every run may have.
const COMMON: &[Kind] = &[
    Kind { most: 3, of: |_, _, at, out| out.push((at, Fault::BrokerKilled)) },
    Kind { most: 3, of: |_, _, at, out| out.push((at, Fault::BrokerPowerLost)) },
    Kind { most: 2, of: |_, _, at, out| out.push((at, Fault::BrokerStops)) },
    Kind { most: 2, of: |_, _, at, out| out.push((at, Fault::BrokerSyncFails)) },
    Kind { most: 2, of: clock_step },
    Kind { most: 8, of: |r, h, at, out| out.push((at, Fault::DeviceCut(r.place(h.devices)))) },
    Kind { most: 3, of: |r, h, at, out| out.push((at, Fault::DeviceReboot(r.place(h.devices)))) },
    Kind { most: 2, of: |r, h, at, out| out.push((at, Fault::DeviceReflash(r.place(h.devices)))) },
    Kind { most: 8, of: device_roams },
    Kind { most: 4, of: |r, h, at, out| out.push((at, Fault::GatewayCrash(r.place(h.gateways)))) },
    Kind { most: 6, of: |r, h, at, out| out.push((at, Fault::Ghost(r.place(h.gateways)))) },
    Kind { most: 3, of: spool_full },
    Kind { most: 5, of: |r, h, at, out| out.push((at, Fault::UplinkCut(r.place(h.gateways)))) },
    Kind { most: 2, of: uplink_down },
];

/// Faults that take a spool back or apart: a run that has them may end with a stopped uplink.
const OF_SPOOLS: &[Kind] = &[
    Kind { most: 1, of: spool_cloned },
    Kind { most: 1, of: |r, h, at, out| out.push((at, Fault::SpoolLost(r.place(h.gateways)))) },
    Kind { most: 2, of: spool_restored },
];

fn clock_step(rng: &mut Rng, hosts: &Hosts, at: u64, out: &mut Vec<(u64, Fault)>) {
    let gateway = rng.chance(70).then(|| rng.place(hosts.gateways));
    let by = i64::try_from(rng.below(2 * 86_400_000)).unwrap_or(0) - 86_400_000;
    out.push((at, Fault::ClockStep { gateway, by_ms: by }));
}

/// To another gateway; now and then it is started again before that one has acknowledged anything.
fn device_roams(rng: &mut Rng, hosts: &Hosts, at: u64, out: &mut Vec<(u64, Fault)>) {
    let device = rng.place(hosts.devices);
    out.push((at, Fault::DeviceRoams(device)));
    if rng.chance(40) {
        out.push((at, Fault::DeviceRebootsOnceAccepted(device)));
    }
}

fn spool_full(rng: &mut Rng, hosts: &Hosts, at: u64, out: &mut Vec<(u64, Fault)>) {
    let gateway = rng.place(hosts.gateways);
    out.push((at, Fault::SpoolFull(gateway)));
    out.push((at + rng.between(50, 8_000), Fault::SpoolRoomy(gateway)));
}

fn uplink_down(rng: &mut Rng, hosts: &Hosts, at: u64, out: &mut Vec<(u64, Fault)>) {
    let gateway = rng.place(hosts.gateways);
    out.push((at, Fault::UplinkDown(gateway)));
    out.push((at + rng.between(500, 15_000), Fault::UplinkUp(gateway)));
}

/// The clone has a life of its own: a device comes and goes, its uplink breaks, it is started again.
fn spool_cloned(rng: &mut Rng, hosts: &Hosts, at: u64, out: &mut Vec<(u64, Fault)>) {
    let clone = hosts.gateways;
    out.push((at, Fault::SpoolCloned(rng.place(hosts.gateways))));
    let device = rng.place(hosts.devices);
    for _ in 0..rng.below(6) {
        out.push((at + rng.between(1_000, 15_000), Fault::DeviceRoams(device)));
    }
    for _ in 0..rng.below(4) {
        out.push((at + rng.between(2_000, 20_000), Fault::UplinkCut(clone)));
    }
    for _ in 0..rng.below(3) {
        out.push((at + rng.between(2_000, 20_000), Fault::GatewayCrash(clone)));
    }
}

fn spool_restored(rng: &mut Rng, hosts: &Hosts, at: u64, out: &mut Vec<(u64, Fault)>) {
    let gateway = rng.place(hosts.gateways);
    out.push((at, Fault::SpoolSaved(gateway)));
    let restored = at + rng.between(100, 12_000);
    out.push((restored, Fault::SpoolRestored(gateway)));
    if rng.chance(50) {
        // Whoever finds its uplink stopped starts the gateway again.
        out.push((restored + rng.between(2_000, 9_000), Fault::GatewayCrash(gateway)));
    }
}

impl Profile {
    /// Draws a run: each kind of fault is in about half of the runs, so that rare combinations are not drowned by the
    /// frequent ones.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let hosts =
            Hosts { devices: 2 + rng.place(4), gateways: if rng.chance(65) { 2 } else { 1 } };
        let mut faults = Vec::new();
        let of_spools = rng.chance(35);
        let kinds = COMMON.iter().chain(OF_SPOOLS.iter().filter(|_| of_spools));
        for kind in kinds {
            if rng.chance(50) {
                for _ in 0..rng.between(1, kind.most) {
                    let at = rng.between(100, FAULTS_END_MS - 1_000);
                    (kind.of)(rng, &hosts, at, &mut faults);
                }
            }
        }
        faults.push((FAULTS_END_MS, Fault::Heal));
        Self {
            devices: hosts.devices,
            gateways: hosts.gateways,
            sample_ms_max: rng.between(200, 3_000),
            pending_bytes_max: if rng.chance(30) { 8 << 10 } else { 1 << 20 },
            retention_bytes: rng.chance(30).then(|| rng.below(40 << 10)),
            sync_ms_max: rng.between(2, 500),
            late_answers: if rng.chance(50) { 20 } else { 0 },
            faults,
        }
    }
}
