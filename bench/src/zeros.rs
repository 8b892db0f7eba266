//! Files that were written before.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Result;
use rustix::fs::OFlags;

const PIECE_BYTES: usize = 1 << 20;

/// Disks with blocks of this size, or less, fetch what lies at multiples of it.
const ALIGN: usize = 4 << 10;

/// Makes a file of `len` bytes, a multiple of a mebibyte, all of them written, and none of them in the page cache if the
/// file system can do without.
pub fn zeroed(path: &Path, len: u64) -> Result<File> {
    let plain = || File::options().create(true).truncate(true).read(true).write(true).to_owned();
    let direct = plain().custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path);
    let file = direct.or_else(|_| plain().open(path))?;
    let zeros = vec![0; PIECE_BYTES + ALIGN];
    let start = zeros.as_ptr().align_offset(ALIGN).min(ALIGN);
    for pos in (0..len).step_by(PIECE_BYTES) {
        file.write_all_at(&zeros[start..start + PIECE_BYTES], pos)?;
    }
    file.sync_all()?;
    Ok(File::options().read(true).write(true).open(path)?)
}
