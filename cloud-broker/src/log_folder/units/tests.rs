use tempfile::TempDir;

use super::*;

const FILE_BYTES: u32 = 8 << 10;

fn folder(root: &TempDir) -> LogFolder {
    LogFolder::for_tests(root.path())
}

fn read(folder: &mut LogFolder, unit: UnitId) -> Bytes {
    UnitSource::read_at(folder, unit, 0, 32 << 20).unwrap()
}

#[test]
fn a_unit_exists_once_it_is_finished() {
    let root = TempDir::new().unwrap();
    let mut folder = folder(&root);
    let content: Vec<u8> = (0..10_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
    let mut unit = folder.create(UnitNo(5)).unwrap();
    for piece in content.chunks(3 << 20) {
        unit.append(piece).unwrap();
    }
    assert_eq!(folder.units().unwrap(), []);
    unit.finish().unwrap();
    assert_eq!(folder.units().unwrap(), [(UnitNo(5), content.len() as u64)]);
    assert_eq!(read(&mut folder, UnitId::Unit(UnitNo(5))), content);
    let end = UnitSource::read_at(&mut folder, UnitId::Unit(UnitNo(5)), (10 << 20) - 2, 8);
    assert_eq!(end.unwrap(), content[content.len() - 2..]);
    assert!(!folder.space().is_looked_at_soon());
    folder.free(UnitId::Unit(UnitNo(5))).unwrap();
    assert!(folder.space().is_looked_at_soon(), "producers may wait for what was given back");
    assert_eq!(folder.units().unwrap(), []);
    folder.free(UnitId::Unit(UnitNo(5))).unwrap();
}

#[test]
fn a_unit_that_is_given_up_leaves_nothing() {
    let root = TempDir::new().unwrap();
    let mut folder = folder(&root);
    let mut unit = folder.create(UnitNo(1)).unwrap();
    unit.append(b"half").unwrap();
    drop(unit);
    assert_eq!(fs::read_dir(&folder.folders().unit).unwrap().count(), 0);
}

#[test]
fn a_sealed_file_ends_behind_its_footer() {
    let root = TempDir::new().unwrap();
    let mut folder = folder(&root);
    let path = folder.folders().wal_file(FileNo(3));
    fs::write(&path, vec![1; FILE_BYTES as usize]).unwrap();
    for (pos, len) in [(4096, 4104), (4096, 4104), (8190, 8198)] {
        folder.seal(FileNo(3), pos, b"footer!!").unwrap();
        let file = read(&mut folder, UnitId::Wal(FileNo(3)));
        assert_eq!((file.len(), &file[file.len() - 8..]), (len, &b"footer!!"[..]));
    }
    assert!(folder.seal(FileNo(4), 0, b"none").is_err());
}

#[test]
fn a_footer_is_seen_by_whoever_has_read_the_file() {
    let root = TempDir::new().unwrap();
    let mut folder = folder(&root);
    let path = folder.folders().wal_file(FileNo(3));
    let mut content = vec![1; 1 << 20];
    fs::write(&path, &content).unwrap();
    let footer: Vec<u8> = (0..600_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    for pos in [content.len() - footer.len(), 4096, 4100] {
        assert_eq!(read(&mut folder, UnitId::Wal(FileNo(3))), content);
        folder.seal(FileNo(3), pos as u64, &footer).unwrap();
        content.truncate(pos);
        content.extend_from_slice(&footer);
        assert!(read(&mut folder, UnitId::Wal(FileNo(3))) == content, "{pos}");
    }
}

#[test]
fn a_recycled_file_is_read_as_what_it_is_now() {
    let root = TempDir::new().unwrap();
    let mut folder = folder(&root);
    let file = |n| folder.folders().wal_file(FileNo(n));
    let (old, new) = (file(1), file(2));
    fs::write(&old, vec![1; FILE_BYTES as usize]).unwrap();
    assert_eq!(read(&mut folder, UnitId::Wal(FileNo(1)))[0], 1);
    folder.free(UnitId::Wal(FileNo(1))).unwrap();
    let recycled = folder.space().take(FILE_BYTES).unwrap();
    fs::rename(&recycled, &new).unwrap();
    fs::write(&new, vec![2; FILE_BYTES as usize]).unwrap();
    assert_eq!(read(&mut folder, UnitId::Wal(FileNo(2)))[0], 2);
    assert!(UnitSource::read_at(&mut folder, UnitId::Wal(FileNo(1)), 0, 1).is_err());
}
