use std::cell::RefCell;

use gateway_core::spool::conformance;
use gateway_core::spool::store::SpoolStore;
use tempfile::TempDir;

use super::*;

fn gateway() -> GatewayId {
    GatewayId::new("plant-1").unwrap()
}

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder, &gateway(), SpoolId([5; 16]), Quota::new(64 << 20)).unwrap()
}

#[test]
fn sqlite_passes_the_conformance_suite() {
    // The folder of the store that is being checked; the suite works on one at a time.
    let folder: RefCell<Option<TempDir>> = RefCell::new(None);
    let make = || {
        let fresh = TempDir::new().unwrap();
        let store = open(fresh.path());
        folder.replace(Some(fresh));
        store
    };
    let reopen = |store: SqliteStore| {
        drop(store);
        open(folder.borrow().as_ref().expect("a store was made").path())
    };
    conformance::check(make, reopen);
}

#[test]
fn a_second_process_is_turned_away() {
    let folder = TempDir::new().unwrap();
    let _first = open(folder.path());
    let quota = Quota::new(0);
    let second = SqliteStore::open(folder.path(), &gateway(), SpoolId([6; 16]), quota);
    assert!(matches!(second, Err(OpenError::Busy { .. })), "{second:?}");
}

#[test]
fn a_spool_of_another_gateway_is_refused() {
    let folder = TempDir::new().unwrap();
    drop(open(folder.path()));
    let other = GatewayId::new("plant-2").unwrap();
    let opened = SqliteStore::open(folder.path(), &other, SpoolId([6; 16]), Quota::new(0));
    let message = opened.unwrap_err().to_string();
    assert!(message.contains("plant-1") && message.contains("plant-2"), "{message}");
}

#[test]
fn a_later_format_is_refused() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    store.connection.execute("UPDATE identity SET format = 3", []).unwrap();
    drop(store);
    let opened = SqliteStore::open(folder.path(), &gateway(), SpoolId([6; 16]), Quota::new(0));
    assert!(matches!(opened, Err(OpenError::Format { found: 3, .. })), "{opened:?}");
}

/// An older version must not open it again: it would take a row with a device's time for damage.
#[test]
fn a_spool_of_format_1_is_taken_over_by_its_own_gateway() {
    let folder = TempDir::new().unwrap();
    let format = |store: &SqliteStore| -> i64 {
        store.connection.query_row("SELECT format FROM identity", [], |row| row.get(0)).unwrap()
    };
    let store = open(folder.path());
    store.connection.execute("UPDATE identity SET format = 1", []).unwrap();
    drop(store);
    let other = GatewayId::new("plant-2").unwrap();
    let opened = SqliteStore::open(folder.path(), &other, SpoolId([6; 16]), Quota::new(0));
    assert!(matches!(opened, Err(OpenError::OtherGateway { .. })), "{opened:?}");
    let raw = Connection::open(folder.path().join("spool.db")).unwrap();
    let found: i64 = raw.query_row("SELECT format FROM identity", [], |row| row.get(0)).unwrap();
    assert_eq!(found, 1, "left as it was");
    drop(raw);
    assert_eq!(format(&open(folder.path())), 2);
}

#[test]
fn a_file_that_is_no_database_is_damage() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("spool.db"), [7; 8192]).unwrap();
    let opened = SqliteStore::open(folder.path(), &gateway(), SpoolId([6; 16]), Quota::new(0));
    let Err(OpenError::Store { source: StoreError::Damaged(_), .. }) = opened else {
        panic!("{opened:?}");
    };
}

/// Promise 1 rests on these settings: a commit that returns was synced.
#[test]
fn every_commit_is_synced() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let pragma = |name: &str| -> String {
        let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        store.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(pragma("journal_mode"), "wal");
    assert_eq!(pragma("synchronous"), "2", "FULL");
    assert_eq!(pragma("auto_vacuum"), "2", "INCREMENTAL");
    let options = store
        .connection
        .prepare("PRAGMA compile_options")
        .unwrap()
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
        .map(Result::unwrap)
        .collect::<Vec<_>>();
    assert!(!options.iter().any(|o| o.starts_with("DEFAULT_SYNCHRONOUS=0")), "{options:?}");
}

#[test]
fn a_checkpoint_keeps_everything() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let ledger = gateway_core::ledger::Ledger { received: 7, ..Default::default() };
    store.begin().unwrap();
    store.put_ledger(&ledger).unwrap();
    store.commit().unwrap();
    store.checkpoint().unwrap();
    drop(store);
    assert_eq!(open(folder.path()).recover().unwrap().ledger, ledger);
}
